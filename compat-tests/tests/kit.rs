//! The test kit itself.

use std::process::Command;

use compat_tests::{PostgresServer, Process, RedisServer, Signal, eventually, run, secs};

#[test]
fn redis_answers_and_keeps_what_it_acknowledged_over_a_kill() {
    let mut redis = RedisServer::options().append_only().start();
    let mut connection = redis.connection();
    redis::cmd("SET").arg("key").arg("value").exec(&mut connection).unwrap();
    redis.kill();
    assert!(redis::cmd("PING").exec(&mut connection).is_err());
    redis.restart();
    let value: String = redis::cmd("GET").arg("key").query(&mut redis.connection()).unwrap();
    assert_eq!(value, "value");
}

#[test]
fn a_paused_redis_answers_nothing_until_it_is_resumed() {
    let redis = RedisServer::start();
    let mut connection = redis.connection();
    connection.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    redis.pause();
    assert!(redis::cmd("PING").exec(&mut connection).is_err());
    redis.resume();
    let pong: String = redis::cmd("PING").query(&mut redis.connection()).unwrap();
    assert_eq!(pong, "PONG");
}

#[test]
fn a_password_is_asked_for_and_stands_in_the_url() {
    let redis = RedisServer::options().password("hush").start();
    assert!(redis.url().contains(":hush@"));
    let open = redis::Client::open(format!("redis://127.0.0.1:{}", redis.port())).unwrap();
    let error =
        open.get_connection().and_then(|mut anonymous| redis::cmd("PING").exec(&mut anonymous)).unwrap_err();
    assert!(error.to_string().contains("NOAUTH"), "{error}");
}

#[tokio::test]
async fn databases_of_one_postgres_are_apart_and_survive_a_crash() {
    let mut server = PostgresServer::start();
    let (one, two) = (server.create_database(), server.create_database());
    one.execute("CREATE TABLE t (id int); INSERT INTO t VALUES (7)");
    assert_eq!(two.execute("SELECT count(*) FROM pg_tables WHERE tablename = 't'"), "0");
    server.restart();
    assert_eq!(one.execute("SELECT id, 'x' FROM t"), "7|x");
}

#[test]
fn lines_of_a_process_are_awaited_and_its_children_die_with_it() {
    let mut shell = Process::spawn(
        "sh",
        Command::new("sh").args(["-c", "echo start >&2; sleep 77 & echo child $!; wait"]),
    );
    shell.wait_for_line("^start$", secs(5));
    let child = shell.wait_for_line("^child ", secs(5)).replace("child ", "");
    shell.kill();
    eventually("the child is gone", secs(5), || {
        std::fs::read_to_string(format!("/proc/{child}/stat")).map_or(true, |stat| stat.contains(") Z "))
    });
}

#[test]
fn a_signal_ends_a_process_and_the_status_says_so() {
    let mut sleeper = Process::spawn("sleep", Command::new("sleep").arg("77"));
    sleeper.signal(Signal::SIGTERM);
    assert!(!sleeper.wait(secs(5)).success());
}

#[test]
fn a_program_that_ran_shows_its_output() {
    let finished = run(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), secs(5));
    assert!(finished.failure().contains("err"));
    assert_eq!(finished.status.code(), Some(3));
}

#[test]
#[should_panic(expected = "still running after")]
fn a_program_that_does_not_end_is_killed_at_the_deadline() {
    run(Command::new("sleep").arg("77"), std::time::Duration::from_millis(100));
}

/// Runs itself a second time, in a process that starts servers and is killed.
#[test]
fn servers_die_with_a_killed_test_process() {
    const SECOND: &str = "COMPAT_KIT_SECOND_PROCESS";
    if std::env::var_os(SECOND).is_some() {
        let (_redis, _postgres) = (RedisServer::start(), PostgresServer::start());
        println!("servers run");
        loop {
            std::thread::park();
        }
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "servers_die_with_a_killed_test_process", "--nocapture"]).env(SECOND, "1");
    let mut second = Process::spawn("second test process", &command);
    second.wait_for_line("servers run", secs(60));
    let children = children_of(second.id());
    assert_eq!(children.len(), 2, "redis-server and postgres");
    second.signal(Signal::SIGKILL);
    eventually("the servers are gone", secs(10), || {
        children.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
}

fn children_of(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)) == Some(&parent.to_string())
    })
    .collect()
}
