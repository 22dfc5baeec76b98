//! The attribute's own arguments: `name = "..."`, `acks_late`, ...

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprArray, ExprLit, ExprPath, Ident, Lit, Result, Token, parse_quote};

/// What the attribute says; everything that becomes a task option stands in `options` as statements.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<Expr>,
    pub(crate) bind: bool,
    pub(crate) pool: Option<(String, proc_macro2::Span)>,
    pub(crate) on_failure: Option<Expr>,
    pub(crate) on_success: Option<Expr>,
    pub(crate) options: Vec<TokenStream>,
}

/// How an attribute's value becomes the task option of the same name.
#[derive(Clone, Copy)]
enum Kind {
    /// `Option<bool>`
    Flag,
    /// `bool`
    PlainFlag,
    /// `Option<f64>`
    Seconds,
    /// `f64`
    PlainSeconds,
    /// `Option<String>`
    Text,
    /// `Vec<String>`
    Texts,
    /// Written out in [`Attributes::special`].
    Special,
}

const KNOWN: &[(&str, Kind)] = &[
    ("acks_late", Kind::Flag),
    ("acks_on_failure", Kind::Flag),
    ("acks_on_failure_or_timeout", Kind::Special),
    ("acks_on_timeout", Kind::Flag),
    ("autoretry_for", Kind::Texts),
    ("bind", Kind::Special),
    ("compression", Kind::Text),
    ("content_type", Kind::Special),
    ("default_retry_delay", Kind::PlainSeconds),
    ("dont_autoretry_for", Kind::Texts),
    ("exchange", Kind::Text),
    ("expires", Kind::Seconds),
    ("hard_time_limit", Kind::Special),
    ("ignore_result", Kind::Flag),
    ("max_retries", Kind::Special),
    ("max_retry_delay", Kind::Special),
    ("min_retry_delay", Kind::Special),
    ("name", Kind::Special),
    ("on_failure", Kind::Special),
    ("on_success", Kind::Special),
    ("pool", Kind::Special),
    ("priority", Kind::Special),
    ("queue", Kind::Text),
    ("rate_limit", Kind::Text),
    ("reject_on_worker_lost", Kind::Flag),
    ("retry_backoff", Kind::Special),
    ("retry_backoff_max", Kind::PlainSeconds),
    ("retry_for_unexpected", Kind::Special),
    ("retry_jitter", Kind::PlainFlag),
    ("routing_key", Kind::Text),
    ("send_events", Kind::PlainFlag),
    ("serializer", Kind::Text),
    ("soft_time_limit", Kind::Seconds),
    ("store_errors_even_if_ignored", Kind::Flag),
    ("time_limit", Kind::Special),
    ("track_started", Kind::Flag),
];

impl Parse for Attributes {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut attributes = Attributes::default();
        let mut seen: Vec<Ident> = Vec::new();
        for Attribute { name, value } in Punctuated::<Attribute, Token![,]>::parse_terminated(input)? {
            if seen.contains(&name) {
                return Err(Error::new(name.span(), format!("`{name}` is given twice")));
            }
            attributes.add(&name, value)?;
            seen.push(name);
        }
        Ok(attributes)
    }
}

struct Attribute {
    name: Ident,
    value: Option<Expr>,
}

impl Parse for Attribute {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let name = input.call(Ident::parse_any)?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Self { name, value })
    }
}

impl Attributes {
    fn add(&mut self, name: &Ident, value: Option<Expr>) -> Result<()> {
        let text = name.to_string();
        let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == text) else {
            let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            let message = format!("unknown attribute `{text}`; the known ones are: {}", known.join(", "));
            return Err(Error::new(name.span(), message));
        };
        let statement = match kind {
            Kind::Flag => {
                let flag = flag(value);
                quote! { __options.#name = ::core::option::Option::Some(#flag); }
            }
            Kind::PlainFlag => {
                let flag = flag(value);
                quote! { __options.#name = #flag; }
            }
            Kind::Seconds => {
                let seconds = number(&required(name, value)?);
                quote! { __options.#name = ::core::option::Option::Some(#seconds); }
            }
            Kind::PlainSeconds => {
                let seconds = number(&required(name, value)?);
                quote! { __options.#name = #seconds; }
            }
            Kind::Text => {
                let text = required(name, value)?;
                quote! { __options.#name = ::core::option::Option::Some(::std::string::String::from(#text)); }
            }
            Kind::Texts => {
                let texts = texts(required(name, value)?);
                quote! { __options.#name.extend([#(::std::string::String::from(#texts)),*]); }
            }
            Kind::Special => self.special(name, &text, value)?,
        };
        self.options.push(statement);
        Ok(())
    }

    /// Attributes that are no option of their own, or not in the plain form; the statement that they lead to.
    fn special(&mut self, name: &Ident, text: &str, value: Option<Expr>) -> Result<TokenStream> {
        match text {
            "bind" => {
                let value = flag(value);
                let Expr::Lit(ExprLit { lit: Lit::Bool(bind), .. }) = &value else {
                    return Err(Error::new(value.span(), "`bind` is `true` or `false`"));
                };
                self.bind = bind.value;
            }
            "acks_on_failure_or_timeout" => {
                let flag = flag(value);
                return Ok(quote! {
                    __options.acks_on_failure = ::core::option::Option::Some(#flag);
                    __options.acks_on_timeout = __options.acks_on_failure;
                });
            }
            "retry_backoff" => return Ok(backoff(value)),
            "retry_for_unexpected" => {
                let flag = flag(value);
                return Ok(quote! {
                    if #flag {
                        __options.autoretry_for.push(::std::string::String::from("Exception"));
                        __options.retry_backoff.get_or_insert(1.0);
                    }
                });
            }
            _ => {
                let value = required(name, value)?;
                return self.with_value(text, value);
            }
        }
        Ok(TokenStream::new())
    }

    fn with_value(&mut self, text: &str, value: Expr) -> Result<TokenStream> {
        match text {
            "name" => self.name = Some(value),
            "on_failure" => self.on_failure = Some(value),
            "on_success" => self.on_success = Some(value),
            "pool" => {
                let Expr::Lit(ExprLit { lit: Lit::Str(pool), .. }) = &value else {
                    return Err(Error::new(value.span(), "`pool` is \"async\", \"blocking\" or \"process\""));
                };
                self.pool = Some((pool.value(), pool.span()));
            }
            "priority" => return Ok(quote! { __options.priority = ::core::option::Option::Some(#value); }),
            "max_retries" if is_path(&value, "None") => {
                return Ok(quote! { __options.max_retries = ::core::option::Option::None; });
            }
            "max_retries" => {
                return Ok(quote! { __options.max_retries = ::core::option::Option::Some(#value); });
            }
            // rusty-celery has two names for the limit that ends a task; the shorter one holds.
            "time_limit" | "hard_time_limit" => {
                let seconds = number(&value);
                return Ok(quote! {
                    __options.time_limit = ::core::option::Option::Some(
                        __options.time_limit.map_or(#seconds, |__other| __other.min(#seconds)),
                    );
                });
            }
            "min_retry_delay" => {
                let seconds = number(&value);
                return Ok(quote! {
                    __options.retry_backoff_min = #seconds;
                    __options.default_retry_delay = #seconds;
                });
            }
            "max_retry_delay" => {
                let seconds = number(&value);
                return Ok(quote! { __options.retry_backoff_max = #seconds; });
            }
            "content_type" => {
                let serializer = serializer(&value)?;
                return Ok(quote! {
                    __options.serializer = ::core::option::Option::Some(::std::string::String::from(
                        ::celeriac::message::Serializer::#serializer.as_str(),
                    ));
                });
            }
            _ => return Err(Error::new(value.span(), format!("`{text}` has no value"))),
        }
        Ok(TokenStream::new())
    }
}

fn required(name: &Ident, value: Option<Expr>) -> Result<Expr> {
    value.ok_or_else(|| Error::new(name.span(), format!("`{name}` needs a value: `{name} = ...`")))
}

fn flag(value: Option<Expr>) -> Expr {
    value.unwrap_or_else(|| parse_quote!(true))
}

/// A number of any type as `f64`; a whole literal is taken as a float literal, so that no cast is needed.
fn number(value: &Expr) -> TokenStream {
    match value {
        Expr::Lit(ExprLit { lit: Lit::Int(whole), .. }) if whole.suffix().is_empty() => {
            let literal =
                Lit::Float(syn::LitFloat::new(&format!("{}f64", whole.base10_digits()), whole.span()));
            quote! { #literal }
        }
        Expr::Lit(ExprLit { lit: Lit::Float(float), .. }) => quote! { #float },
        other => quote_spanned! { other.span() => ((#other) as f64) },
    }
}

/// The elements of a list, or the one text that stands for a list of one.
fn texts(value: Expr) -> Vec<Expr> {
    match value {
        Expr::Array(ExprArray { elems, .. }) => elems.into_iter().collect(),
        one => vec![one],
    }
}

fn backoff(value: Option<Expr>) -> TokenStream {
    let value = flag(value);
    match &value {
        Expr::Lit(ExprLit { lit: Lit::Bool(flag), .. }) if flag.value => {
            quote! { __options.retry_backoff = ::core::option::Option::Some(1.0); }
        }
        Expr::Lit(ExprLit { lit: Lit::Bool(_), .. }) => {
            quote! { __options.retry_backoff = ::core::option::Option::None; }
        }
        factor => {
            let factor = number(factor);
            quote! { __options.retry_backoff = ::core::option::Option::Some(#factor); }
        }
    }
}

/// Returns celeriac's serializer of a mime type, or of rusty-celery's `MessageContentType` variant.
fn serializer(value: &Expr) -> Result<Ident> {
    let name = match value {
        Expr::Lit(ExprLit { lit: Lit::Str(mime), .. }) => mime.value(),
        Expr::Path(ExprPath { path, .. }) => {
            path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default()
        }
        _ => String::new(),
    };
    let variant = |name| Ok(Ident::new(name, value.span()));
    match name.as_str() {
        "application/json" | "Json" => variant("Json"),
        "application/x-msgpack" | "MsgPack" => variant("Msgpack"),
        "application/x-yaml" | "Yaml" => variant("Yaml"),
        "application/x-python-serialize" | "Pickle" => Err(Error::new(
            value.span(),
            "pickle is never written or read: it would run code of whoever sent it",
        )),
        _ => Err(Error::new(
            value.span(),
            "`content_type` is \"application/json\", \"application/x-msgpack\" or \"application/x-yaml\"",
        )),
    }
}

fn is_path(value: &Expr, name: &str) -> bool {
    matches!(value, Expr::Path(ExprPath { path, .. }) if path.is_ident(name))
}
