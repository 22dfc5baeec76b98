//! Redis over TLS, with the options that stand in the URL of Celery's workers.

use companion::{Companion, settings::Settings};
use compat_tests::{Certificates, RedisServer};

/// The service with that URL of Redis.
fn companion(url: &str) -> Companion {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let database = format!("sqlite://{}", folder.path().join("companion.db").display());
    let settings = Settings::from_vars([("REDIS_URL", url), ("DATABASE_URL", &database)]);
    Companion::open(settings.expect("valid settings")).expect("a companion")
}

/// What is wrong with that URL.
fn problem(url: &str) -> String {
    let error = Settings::from_vars([("REDIS_URL", url)]).expect_err("the URL is of no use");
    error.problems.join("\n")
}

#[tokio::test]
async fn a_server_is_reached_with_an_authority_and_a_certificate_of_ones_own() {
    let certificates = Certificates::make();
    let redis = RedisServer::options().tls(&certificates, true).start();
    let file = |name: &str| certificates.path(name).display().to_string().replace('/', "%2F");
    let url = format!(
        "rediss://localhost:{}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={}",
        redis.tls_port(),
        certificates.authority().display()
    );
    let mutual = format!("{url}&ssl_certfile={}&ssl_keyfile={}", file("client.crt"), file("client.key"));
    companion(&mutual).redis.ping().await.expect("both trust each other");
    companion(&url).redis.ping().await.expect_err("the server wants a certificate");
}

#[tokio::test]
async fn a_server_of_a_strange_authority_is_refused_unless_nothing_is_verified() {
    let (certificates, strange) = (Certificates::make(), Certificates::make());
    let redis = RedisServer::options().tls(&certificates, false).start();
    let url = |options: &str| format!("rediss://localhost:{}/0{options}", redis.tls_port());
    let trusting_another = url(&format!("?ssl_ca_certs={}", strange.authority().display()));
    for refused in [url(""), trusting_another] {
        let error = companion(&refused).redis.ping().await.expect_err("a strange authority").to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    companion(&url("?ssl_cert_reqs=CERT_NONE")).redis.ping().await.expect("nothing is verified");
}

#[test]
fn options_of_no_use_are_named() {
    let missing = problem("rediss://:s3cret@redis.internal/0?ssl_ca_certs=/no/such/ca.crt");
    assert!(
        missing.starts_with("REDIS_URL option ssl_ca_certs: /no/such/ca.crt cannot be read: No such file"),
        "{missing}"
    );
    let unknown = problem("rediss://:s3cret@redis.internal/0?ssl_magic=1");
    assert!(unknown.starts_with("REDIS_URL option ssl_magic: is not known; ssl_cert_reqs, "), "{unknown}");
    let value = problem("rediss://:s3cret@redis.internal/0?ssl_cert_reqs=maybe");
    assert!(value.contains("\"maybe\" is none of required, optional, none"), "{value}");
    let key = problem("rediss://:s3cret@redis.internal/0?ssl_keyfile=/dev/null");
    assert!(key.contains("ssl_certfile is missing"), "{key}");
    let file = problem("rediss://:s3cret@redis.internal/0?ssl_ca_certs=/etc/hostname");
    assert!(file.contains("option ssl_ca_certs: the file holds no certificate in PEM form"), "{file}");
    for shown in [missing, unknown, value, key, file] {
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
