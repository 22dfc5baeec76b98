use std::net::IpAddr;

use super::reader::Reader;

/// A network, such as `10.0.0.0/8`.
pub use ipnet::IpNet as Network;

/// The origins whose pages may use the API from a browser.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None: browsers keep pages of other origins away.
    #[default]
    None,
    /// All.
    Any,
    /// These, each written as `https://host` or `https://host:port`.
    These(Vec<String>),
}

/// Reads `CORS_ALLOW_ORIGINS`.
pub(super) fn cors_origins(reader: &mut Reader) -> CorsOrigins {
    let origins = list(reader, "CORS_ALLOW_ORIGINS");
    if origins.iter().any(|origin| origin == "*") {
        return CorsOrigins::Any;
    }
    for origin in &origins {
        let parsed = origin.parse::<reqwest::Url>().ok();
        if parsed.is_none_or(|url| url.origin().ascii_serialization() != *origin) {
            let expected = "expected * or origins such as https://app.example.com, with commas between them";
            reader.problem("CORS_ALLOW_ORIGINS", &format!("holds {origin:?}; {expected}"));
        }
    }
    if origins.is_empty() { CorsOrigins::None } else { CorsOrigins::These(origins) }
}

/// Reads `TRUSTED_PROXIES`.
pub(super) fn trusted_proxies(reader: &mut Reader) -> Vec<Network> {
    let mut networks = Vec::new();
    for text in list(reader, "TRUSTED_PROXIES") {
        match text.parse::<Network>().or_else(|_| text.parse::<IpAddr>().map(Network::from)) {
            Ok(network) => networks.push(network),
            Err(_) => {
                let expected = "expected addresses or networks such as 10.0.0.0/8, with commas between them";
                reader.problem("TRUSTED_PROXIES", &format!("holds {text:?}; {expected}"));
            }
        }
    }
    networks
}

fn list(reader: &Reader, name: &str) -> Vec<String> {
    let text = reader.text(name).unwrap_or_default();
    text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
}
