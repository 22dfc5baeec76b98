//! `rediss://`, with authorities and client certificates of one's own.

use celeriac::Celery;
use celeriac::message::Signature;
use compat_tests::{Certificates, RedisServer, secs};
use serde_json::json;

use crate::stage::Stage;

/// Broker and backend by `rediss://localhost`.
fn stage(redis: &RedisServer) -> Stage {
    // A busy machine takes its time for handshakes.
    Stage::at(format!("rediss://localhost:{}/1", redis.tls_port())).set("celeriac_publish_timeout", 60)
}

#[test]
fn a_worker_and_clients_meet_over_mutual_tls() {
    let certificates = Certificates::make();
    let redis = RedisServer::options().tls(&certificates, true).start();
    let options = json!({
        "ssl_cert_reqs": "required",
        "ssl_ca_certs": certificates.authority(),
        "ssl_certfile": certificates.path("client.crt"),
        "ssl_keyfile": certificates.path("client.key"),
    });
    stage(&redis).ssl(options).works_with_everybody(json!({}));
}

#[test]
fn the_options_of_tls_may_stand_in_the_url() {
    let certificates = Certificates::make();
    let redis = RedisServer::options().tls(&certificates, false).start();
    let authority = certificates.authority();
    let url = |host: &str, more: &str| {
        format!(
            "rediss://{host}:{}/0?ssl_cert_reqs=CERT_REQUIRED&ssl_ca_certs={}{more}",
            redis.tls_port(),
            authority.display().to_string().replace('/', "%2F")
        )
    };
    Stage::at(url("127.0.0.1", "")).works_with_everybody(json!({}));
}

/// What a client says that cannot reach the broker.
fn refusal(stage: &Stage) -> String {
    let client = stage.client();
    let sent = stage.runtime.block_on(client.apply(Signature::new("faults.late").arg(1).arg(0.0)));
    let error = sent.expect_err("the connection is refused");
    error.to_string()
}

#[test]
fn whom_one_side_does_not_trust_is_refused_with_the_reason() {
    let certificates = Certificates::make();
    let strange = Certificates::make();
    let redis = RedisServer::options().tls(&certificates, true).start();
    let client = |authority: &Certificates, of: &Certificates| {
        json!({
            "ssl_ca_certs": authority.authority(),
            "ssl_certfile": of.path("client.crt"),
            "ssl_keyfile": of.path("client.key"),
        })
    };
    let wrong_authority = stage(&redis).ssl(client(&strange, &certificates));
    let said = refusal(&wrong_authority);
    for part in ["no TLS with rediss://localhost", "invalid peer certificate", "ssl_ca_certs"] {
        assert!(said.contains(part), "{said}");
    }
    let mut worker = wrong_authority.start_worker("one", 1);
    worker.wait_for_line("invalid peer certificate", secs(30));

    let said = refusal(&stage(&redis).ssl(client(&certificates, &strange)));
    assert!(said.contains("ssl_certfile"), "{said}");
    let without = json!({"ssl_ca_certs": certificates.authority()});
    let said = refusal(&stage(&redis).ssl(without));
    assert!(said.contains("ssl_certfile"), "{said}");

    let plain = Stage::at(format!("redis://localhost:{}/0", redis.tls_port()));
    assert!(!refusal(&plain).is_empty());
    let not_tls = Stage::at(format!("rediss://localhost:{}/0", redis.port()));
    let said = refusal(&not_tls);
    assert!(said.contains("may not speak TLS"), "{said}");
}

#[test]
fn the_host_name_is_checked_unless_that_is_switched_off() {
    let certificates = Certificates::make();
    let redis = RedisServer::options()
        .tls(&certificates, false)
        .argument("--tls-cert-file", &certificates.path("stranger.crt").display().to_string())
        .argument("--tls-key-file", &certificates.path("stranger.key").display().to_string())
        .start();
    let authority = certificates.authority();
    let said = refusal(&stage(&redis).ssl(json!({"ssl_ca_certs": authority})));
    assert!(said.contains("ssl_check_hostname"), "{said}");
    let lenient =
        json!({"ssl_ca_certs": authority, "ssl_check_hostname": false, "ssl_cert_reqs": "required"});
    stage(&redis).ssl(lenient).works_with_everybody(json!({}));
    let blind = stage(&redis).ssl(json!({"ssl_cert_reqs": "none"}));
    let mut worker = blind.worker("one", 1);
    worker.wait_for_line("not verified", secs(5));
    blind.call(3);
}

#[test]
fn a_file_that_cannot_be_used_is_named_with_its_setting() {
    let certificates = Certificates::make();
    let bad = certificates.path("bad.pem");
    std::fs::write(&bad, "-----BEGIN NONSENSE-----\n").unwrap();
    for (option, file) in [("ssl_ca_certs", "/no/such/ca.pem"), ("ssl_ca_certs", bad.to_str().unwrap())] {
        let stage = Stage::at("rediss://localhost/0").ssl(json!({(option): file}));
        let error = Celery::new("tls", stage.config()).unwrap_err().to_string();
        for part in ["broker_use_ssl", option, file] {
            assert!(error.contains(part), "{error}");
        }
        let mut worker = stage.start_worker("one", 1);
        assert!(!worker.wait(secs(20)).success());
        worker.lines_with("broker_use_ssl").first().expect("the worker says why");
    }
}
