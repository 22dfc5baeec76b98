//! Every serializer and compression, in both directions, and messages of protocol 1.

use celeriac::config::Config;
use celeriac::message::Signature;
use celeriac::{Celery, Value, value};
use compat_tests::secs;
use serde_json::json;

use crate::stage::{Kind, Stage};

#[test]
fn what_python_sends_comes_back_as_it_was_under_each_serializer_and_compression() {
    for settings in [
        json!({}),
        json!({"result_serializer": "msgpack", "result_compression": "zstd"}),
        json!({"result_serializer": "yaml", "result_compression": "gzip"}),
    ] {
        let stage = Stage::with_settings(Kind::Ours, settings.clone());
        let _worker = stage.worker(&["-c", "2"]);
        let found = stage.observe("serializers");
        assert_eq!(found, json!([[], ["SUCCESS", 42], ["SUCCESS", 2]]), "{settings}");
    }
}

#[tokio::test]
async fn what_rust_sends_is_read_by_celery_under_each_serializer_and_compression() {
    let stage = Stage::new(Kind::Celery);
    let _worker = stage.worker(&["-c", "2"]);
    let mut config = Config::default();
    config.set("broker_url", &stage.redis.url()).unwrap();
    config.set("result_backend", &stage.redis.url()).unwrap();
    let app = Celery::new("client", config).unwrap();
    let plain = value!({"n": [1, 2.5, null, "é", true], "nested": {"a": [[], {}]}});
    let mut typed = plain.clone();
    if let Value::Map(entries) = &mut typed {
        entries.insert("at".to_owned(), Value::DateTime("2026-01-02T03:04:05.678901+00:00".parse().unwrap()));
        entries.insert("day".to_owned(), Value::Date("2026-01-02".parse().unwrap()));
        entries.insert("price".to_owned(), Value::Decimal("10.50".to_owned()));
        entries.insert("bytes".to_owned(), Value::Bytes(vec![0xff, 0, 1]));
    }
    for serializer in ["json", "msgpack", "yaml"] {
        for compression in ["", "gzip", "bzip2", "zstd", "lzma", "brotli"] {
            let value = if serializer == "json" { &typed } else { &plain };
            let mut call = Signature::new("sem.echo").arg(value.clone()).option("serializer", serializer);
            if !compression.is_empty() {
                call = call.option("compression", compression);
            }
            let found = app.apply(call).await.unwrap().get(secs(60)).await.unwrap();
            assert_eq!(&found, value, "{serializer} {compression}");
        }
    }
}
