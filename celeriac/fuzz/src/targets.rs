//! What holds for any bytes: no decoder panics or takes for ever, and what is written is read again as it was.

use celeriac::__private::fuzz;
use celeriac::backend::{ExceptionInfo, TaskMeta};
use celeriac::canvas::{self, Outbox, Sender};
use celeriac::config::Config;
use celeriac::message::{Accept, Codecs, Headers, Map, Message, Serializer, Signature, Value};
use celeriac::message::{Compression, envelope as queue_entry, json, parse_iso8601, repr};

/// A decoder and its name.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 6] = [
    ("envelope", envelope),
    ("headers", headers),
    ("body", body),
    ("control", control),
    ("result", result),
    ("signature", signature),
];

const LIMIT: usize = 1 << 20;

fn accept() -> Accept {
    Accept::all().limited(LIMIT, LIMIT)
}

/// A whole queue entry.
pub(crate) fn envelope(data: &[u8]) {
    if let Ok(marked) = queue_entry::mark_redelivered(data) {
        queue_entry::mark_redelivered(&marked).expect("a marked entry can be marked again");
    }
    let Ok(message) = queue_entry::decode(data) else { return };
    let written = queue_entry::encode(&message);
    let again = queue_entry::decode(&written).expect("what was written is read");
    assert_eq!(queue_entry::encode(&again), written);
    if let Ok((mut message, body)) = message.into_task(&accept())
        && !looks_typed(&body.to_value())
    {
        message.set_body(&body, Serializer::Json, None).expect("a body that was read can be written");
        let again = message.body(&accept()).expect("what was written is read");
        assert_eq!(json::dumps(&again.to_value()), json::dumps(&body.to_value()));
    }
}

/// The headers of a task.
pub(crate) fn headers(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = parse_iso8601(text, celeriac::Timezone::UTC);
    }
    let Ok(Value::Map(entries)) = json::loads(data) else { return };
    if let Ok(headers) = Headers::from_map(entries) {
        let again = Headers::from_map(headers.to_map()).expect("what was written is read");
        assert_eq!(json::dumps(&Value::Map(again.to_map())), json::dumps(&Value::Map(headers.to_map())));
    }
}

/// A body; the first byte says of which type and compression.
pub(crate) fn body(data: &[u8]) {
    const TYPES: [(&str, &str); 8] = [
        ("application/json", "utf-8"),
        ("application/x-yaml", "utf-8"),
        ("application/x-msgpack", "binary"),
        ("application/data", "binary"),
        ("application/text", "latin-1"),
        ("application/json", "us-ascii"),
        ("application/x-python-serialize", "binary"),
        ("", ""),
    ];
    const COMPRESSIONS: [Option<Compression>; 6] = [
        None,
        Some(Compression::Gzip),
        Some(Compression::Bzip2),
        Some(Compression::Lzma),
        Some(Compression::Brotli),
        Some(Compression::Zstd),
    ];
    let Some((&choice, data)) = data.split_first() else { return };
    let (content_type, content_encoding) = TYPES[usize::from(choice) % 8];
    let compression = COMPRESSIONS[usize::from(choice) / 8 % 6];
    let mut message = Message {
        content_type: content_type.to_owned(),
        content_encoding: content_encoding.to_owned(),
        body: data.to_vec().into(),
        ..Message::default()
    };
    message.headers.compression = compression.map(|compression| compression.mime_type().to_owned());
    let _ = message.body(&accept());
    let Ok(value) = message.payload(&accept()) else { return };
    let _ = repr(&value);
    if looks_typed(&value) {
        return;
    }
    for serializer in [Serializer::Json, Serializer::Yaml, Serializer::Msgpack] {
        let Ok(written) = serializer.dumps(&value) else { continue };
        let again =
            serializer.loads(&written).unwrap_or_else(|error| panic!("{serializer:?} of {value:?}: {error}"));
        assert_eq!(serializer.dumps(&again).ok(), Some(written), "{serializer:?} of {value:?}");
    }
}

/// Whether JSON would take a map of another serializer for one of kombu's typed values, as kombu does.
fn looks_typed(value: &Value) -> bool {
    match value {
        Value::List(items) => items.iter().any(looks_typed),
        Value::Map(entries) => {
            let typed = ["__type__", "__value__"].iter().all(|key| entries.contains_key(*key));
            typed || entries.values().any(looks_typed)
        }
        _ => false,
    }
}

/// A remote control request, an answer, events: in an envelope, and as the body of one.
pub(crate) fn control(data: &[u8]) {
    let bare = Message {
        content_type: "application/json".to_owned(),
        content_encoding: "utf-8".to_owned(),
        body: data.to_vec().into(),
        ..Message::default()
    };
    for message in queue_entry::decode(data).ok().iter().chain([&bare]) {
        fuzz::control_request(message);
        fuzz::events(message);
    }
}

/// A stored result.
pub(crate) fn result(data: &[u8]) {
    if let Ok(value) = json::loads(data) {
        let exception = ExceptionInfo::from_value(&value);
        let _ = (exception.repr(), exception.text(), exception.traceback(None));
    }
    let Ok(meta) = TaskMeta::decode("id", data) else { return };
    let written = meta.encode();
    let again = TaskMeta::decode("id", &written).expect("what was written is read");
    assert_eq!(again.encode(), written);
}

/// A signature, which is then sent.
pub(crate) fn signature(data: &[u8]) {
    let Ok(value) = json::loads(data) else { return };
    let Ok(signature) = Signature::from_value(&value) else { return };
    let again = Signature::from_value(&signature.to_value()).expect("what was written is read");
    assert_eq!(json::dumps(&again.to_value()), json::dumps(&signature.to_value()));
    let (config, codecs) = (Config::default(), Codecs::default());
    let sender = Sender {
        config: &config,
        codecs: &codecs,
        tasks: &|_| None,
        origin: "fuzz",
        reply_to: "fuzz",
        now: chrono::DateTime::UNIX_EPOCH,
        new_id: &|| "id".to_owned(),
        parent: None,
    };
    let _ = canvas::apply(signature, Vec::new(), Map::new(), Map::new(), &sender, &mut Outbox::new());
}
