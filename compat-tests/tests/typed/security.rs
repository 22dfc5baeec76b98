//! Messages that are signed, encrypted, or pickled: between Python and us both ways, and refused when a single bit is wrong.

use celeriac::config::Config;
use celeriac::message::{Accept, Body, Codecs, Message, ProtocolError, Value, envelope};
use compat_tests::{Process, PythonEnv, eventually, secs, workspace_root};
use serde_json::{Value as Json, json};

use crate::stage::Stage;

/// Keys `a`, `b` and `x`, of which the store knows the first two; `a.locked` is the key of `a` under a password.
const MAKE_KEYS: &str = r#"
import datetime, os
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import rsa
os.mkdir("store")
for name in "abx":
    key = rsa.generate_private_key(65537, 2048)
    names = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Größe GmbH"),
                       x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (x509.CertificateBuilder().subject_name(names).issuer_name(names).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1)).sign(key, hashes.SHA256()))
    pem = certificate.public_bytes(s.Encoding.PEM)
    open(f"{name}.pem", "wb").write(pem)
    if name != "x":
        open(f"store/{name}.pem", "wb").write(pem)
    form = s.PrivateFormat.TraditionalOpenSSL if name == "b" else s.PrivateFormat.PKCS8
    open(f"{name}.key", "wb").write(key.private_bytes(s.Encoding.PEM, form, s.NoEncryption()))
    open(f"{name}.locked", "wb").write(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret")))
"#;

/// An application in Python that signs as `who` and accepts nothing else.
const SIGNING: &str = r#"
def signing(who):
    signed = Celery("signed", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
    signed.conf.update(task_serializer="auth", event_serializer="auth", accept_content=["auth"], result_accept_content=["json"],
        security_key=who + ".key", security_certificate=who + ".pem", security_cert_store="store/*.pem")
    signed.setup_security()
    return signed
"#;

const KEYS: &str = "new:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f,\
    old:ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

fn signed(stage: &Stage, who: &str) -> Vec<(&'static str, String)> {
    let path = |name: String| stage.folder.path().join(name).display().to_string();
    vec![
        ("task_serializer", "auth".into()),
        ("event_serializer", "auth".into()),
        ("accept_content", "auth".into()),
        ("security_key", path(format!("{who}.key"))),
        ("security_certificate", path(format!("{who}.pem"))),
        ("security_cert_store", path("store/*.pem".into())),
    ]
}

fn encrypted(keys: &str) -> Vec<(&'static str, String)> {
    let serializer = || "encrypted".to_owned();
    vec![
        ("task_serializer", serializer()),
        ("event_serializer", serializer()),
        ("accept_content", serializer()),
        ("celeriac_encryption_keys", keys.into()),
    ]
}

fn config(stage: &Stage, settings: &[(&'static str, String)]) -> Config {
    let mut config = Config::default();
    let url = stage.redis.url();
    for (name, value) in [("broker_url", url.as_str()), ("result_backend", &url)] {
        config.set(name, value).expect("a setting");
    }
    settings.iter().for_each(|(name, value)| config.set(name, value).expect("a setting"));
    config
}

fn worker(stage: &Stage, settings: &[(&'static str, String)]) -> Process {
    let variables: Vec<(String, &str)> = settings
        .iter()
        .map(|(name, value)| (format!("CELERY_{}", name.to_uppercase()), value.as_str()))
        .collect();
    let variables: Vec<(&str, &str)> =
        variables.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    stage.worker(&variables)
}

/// What our client gets from a task of a Python worker.
fn call_python(config: Config, task: &str) -> i64 {
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let app = celeriac::Celery::new("client", config).expect("an app");
        let result = app.send_task(task, [20, 22], []).await.expect("sent");
        result.get_as(secs(60)).await.expect("a result")
    })
}

/// Every message that differs from this one in one bit of its body is refused.
fn every_bit_counts(raw: &[u8], accept: &Accept) {
    let message = envelope::decode(raw).expect("an envelope");
    let body: Body = message.body(accept).expect("the message as it is");
    assert_eq!(body.args, [Value::from(1), Value::from(2)]);
    let step = if std::env::var_os("TYPED_ALL_BITS").is_some() { 1 } else { 3 };
    for bit in (0..message.body.len() * 8).step_by(step) {
        let mut changed = message.body.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = Message { body: changed.into(), ..message.clone() };
        let error = changed.body(accept).expect_err(&format!("bit {bit} does not matter"));
        assert!(matches!(error, ProtocolError::NotTrusted { .. }), "bit {bit}: {error}");
    }
}

#[test]
fn signed_messages_pass_between_python_and_us_and_no_others() {
    let stage = Stage::new();
    stage.script(&format!("{MAKE_KEYS}\nprint('null')"));
    let mut worker = worker(&stage, &signed(&stage, "b"));
    let found = stage.script(&format!(
        r#"{SIGNING}
plain = outcome(app.send_task("typed.add", (1, 2)))
empty = app.send_task("typed.add", (1, 2), serializer="msgpack")
good = signing("a")
results = [outcome(good.send_task("typed.add", (1, 2))), outcome(good.send_task("typed.anything", ("é" * 1000,), compression="gzip")) == "é" * 1000]
linked = outcome((good.signature("typed.add", (1, 2)) | good.signature("typed.add", (4,))).apply_async())
pong = good.control.inspect(timeout=10, limit=1).ping()
stranger = outcome(signing("x").send_task("typed.add", (1, 2)))
print(json.dumps([plain, outcome(empty), results, linked, len(pong), stranger]))"#
    ));
    assert_eq!(found[0][0], "celery.exceptions.InvalidTaskError", "{found}");
    assert!(found[0][1].as_str().is_some_and(|text| text.contains("application/json")), "{found}");
    assert!(found[1][1].as_str().is_some_and(|text| text.contains("application/x-msgpack")), "{found}");
    assert_eq!((&found[2], &found[3], &found[4]), (&json!([3, true]), &json!(7), &json!(1)), "{found}");
    assert!(
        found[5][1].as_str().is_some_and(|text| text.contains("no certificate of the signer")),
        "{found}"
    );
    assert!(worker.is_running());
}

#[test]
fn our_signed_messages_run_on_a_python_worker() {
    let stage = Stage::new();
    stage.script(&format!("{MAKE_KEYS}\nprint('null')"));
    stage.write(
        "peer.py",
        &format!("import os\nfrom celery import Celery\n{SIGNING}\napp = signing('a')\n@app.task(name='peer.add')\ndef add(x, y):\n    return x + y\n"),
    );
    let url = stage.redis.url();
    let command = PythonEnv::get().celery(["-A", "peer", "worker", "-P", "solo", "-l", "info"]);
    let command = command.current_dir(stage.folder.path()).env("PYTHONPATH", stage.folder.path());
    let mut peer = command.env("CELERY_BROKER_URL", &url).env("CELERY_RESULT_BACKEND", &url).spawn();
    peer.wait_for_line(" ready", secs(60));
    assert_eq!(call_python(config(&stage, &signed(&stage, "b")), "peer.add"), 42);

    let mut locked = signed(&stage, "a");
    locked[3].1 = stage.folder.path().join("a.locked").display().to_string();
    let error = Codecs::new(&config(&stage, &locked)).expect_err("the password is missing").to_string();
    assert!(error.contains("security_key_password"), "{error}");
    locked.push(("security_key_password", "secret".into()));
    assert_eq!(call_python(config(&stage, &locked), "peer.add"), 42);
}

#[test]
fn a_signed_message_with_one_wrong_bit_is_refused() {
    let stage = Stage::new();
    stage.script(&format!("{MAKE_KEYS}\nprint('null')"));
    let raw = stage.script(&format!(
        "{SIGNING}\nsigning('a').send_task('typed.add', (1, 2))\nprint(json.dumps(redis.rpop('celery').decode()))"
    ));
    let config = config(&stage, &signed(&stage, "b"));
    let accept = Codecs::new(&config).and_then(|codecs| codecs.accept(&config)).expect("certificates");
    every_bit_counts(raw.as_str().expect("a message").as_bytes(), &accept);
}

/// The module that docs/encryption.md gives to Python programs.
fn python_module() -> String {
    let page = std::fs::read_to_string(workspace_root().join("docs/encryption.md")).expect("the page");
    let (_, after) = page.split_once("```python\n").expect("a module");
    after.split_once("```").expect("its end").0.to_owned()
}

#[test]
fn encrypted_messages_pass_between_python_and_us_and_no_others() {
    let stage = Stage::new();
    stage.write("encryption.py", &python_module());
    let python = format!(
        r#"
import os
from celery import Celery
import encryption
encryption.register("{KEYS}")
app = Celery("peer", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_RESULT_BACKEND"])
app.conf.update(task_serializer="encrypted", accept_content=["encrypted"], result_accept_content=["json"])
@app.task(name="peer.add")
def add(x, y):
    return x + y
"#
    );
    stage.write("peer.py", &python);
    let new_first = encrypted(KEYS);
    let (new, old) = KEYS.split_once(',').expect("two keys");
    let mut worker = worker(&stage, &encrypted(&format!("{old},{new}")));
    let found = stage.script(
        r#"
plain = outcome(app.send_task("typed.add", (1, 2)))
import peer
answer = outcome(peer.app.send_task("typed.add", (1, 2), argsrepr="", kwargsrepr=""))
linked = outcome((peer.app.signature("typed.add", (1, 2)) | peer.app.signature("typed.add", (4,))).apply_async())
pong = peer.app.control.inspect(timeout=10, limit=1).ping()
peer.app.send_task("typed.add", (1, 2), queue="kept")
print(json.dumps([plain, answer, linked, len(pong), redis.rpop("kept").decode()]))"#,
    );
    assert!(found[0][1].as_str().is_some_and(|text| text.contains("application/json")), "{found}");
    assert_eq!((&found[1], &found[2], &found[3]), (&json!(3), &json!(7), &json!(1)), "{found}");
    assert!(worker.is_running());
    drop(worker);

    let config = config(&stage, &new_first);
    let codecs = Codecs::new(&config).expect("keys");
    every_bit_counts(
        found[4].as_str().expect("a message").as_bytes(),
        &codecs.accept(&config).expect("an accept"),
    );

    let url = stage.redis.url();
    let command = PythonEnv::get().celery(["-A", "peer", "worker", "-P", "solo", "-l", "info"]);
    let command = command.current_dir(stage.folder.path()).env("PYTHONPATH", stage.folder.path());
    let mut peer = command.env("CELERY_BROKER_URL", &url).env("CELERY_RESULT_BACKEND", &url).spawn();
    peer.wait_for_line(" ready", secs(60));
    assert_eq!(call_python(config.clone(), "peer.add"), 42);

    let secret = Body { args: vec![Value::from("secret")], ..Body::default() };
    let codec = codecs.codec("encrypted").expect("a codec");
    let message = Message::task("t", "1", secret, codec, None).expect("a message");
    let text = String::from_utf8_lossy(&envelope::encode(&message)).into_owned();
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn pickle_is_never_executed_and_goes_to_the_dead_letters_with_the_reason() {
    let stage = Stage::new();
    let mut worker = stage.worker(&[("CELERY_CELERIAC_DEAD_LETTER_QUEUE", "dead")]);
    let found = stage.script(
        r#"
from kombu.serialization import enable_insecure_serializers
enable_insecure_serializers(["pickle"])
class Exploit:
    def __reduce__(self):
        return (os.system, ("touch pickle-ran",))
bad = app.send_task("typed.anything", (Exploit(),), serializer="pickle")
good = outcome(app.send_task("typed.add", (1, 2)))
found = outcome(bad)
print(json.dumps([found, good, os.path.exists("pickle-ran"), bad.id]))"#,
    );
    assert_eq!(found[0][0], "celery.exceptions.InvalidTaskError", "{found}");
    assert!(
        found[0][1].as_str().is_some_and(|text| text.contains("application/x-python-serialize")),
        "{found}"
    );
    assert_eq!((&found[1], &found[2]), (&json!(3), &json!(false)));
    let id = found[3].as_str().expect("an id");
    eventually("the message is among the dead", secs(30), || {
        let settings = [("CELERY_CELERIAC_DEAD_LETTER_QUEUE", "dead")];
        let listed = stage.run("celeriac", &["dead", "list"], &settings).success();
        listed.lines().filter(|line| line.contains(id)).count() == 1
    });
    assert!(worker.is_running());
    let _: Json = found;
}
