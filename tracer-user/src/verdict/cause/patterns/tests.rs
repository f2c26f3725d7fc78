//! Tests how rows are found, and how a file of rows is read.

use super::{Library, Patterns, Remedy, Row, find, row, without_version};
use crate::report::{Cause, Frame};
use crate::verdict::waits::Wait;

fn wait(reason: &'static str, functions: &[&str]) -> Wait {
    let frame = |function: &&str| Frame { function: (*function).into(), ..Frame::default() };
    Wait { reason, frames: functions.iter().map(frame).collect(), ..Wait::default() }
}

const MODULE: Option<&str> = Some("example.com/api");

fn found(patterns: &Patterns, reason: &'static str, functions: &[&str]) -> Option<(Cause, String)> {
    let remedy = find(patterns, &wait(reason, functions), MODULE);
    remedy.map(|Remedy { cause, advice, .. }| (cause.unwrap(), advice.to_owned()))
}

#[test]
fn a_library_is_known_under_all_its_paths_and_versions() {
    const ROWS: &[Row] = &[row(".(*Pool).run", Cause::Io, "pool"), row("/deep.*", Cause::Other, "deep")];
    const LIBRARY: Library = Library {
        paths: &["github.com/x/pool", "github.com/old/pool"],
        copies: &[("net/http.(*pool", ".(*")],
        rows: ROWS,
    };
    let found = |function: &str| {
        LIBRARY.find(&wait("select", &[]), &[function]).map(|row| row.advice).unwrap_or_default()
    };
    assert_eq!(found("github.com/x/pool.(*Pool).run"), "pool");
    assert_eq!(found("github.com/x/pool/v5.(*Pool).run"), "pool");
    assert_eq!(found("github.com/old/pool/v12/deep.F"), "deep");
    assert_eq!(found("net/http.(*poolPool).run"), "pool");
    for other in ["github.com/x/pools.(*Pool).run", "github.com/x/pool.(*Pool).runs", "x.(*Pool).run"] {
        assert_eq!(found(other), "", "{other}");
    }
    assert_eq!(without_version("/v/x.F"), "/v/x.F");
    assert_eq!(without_version("/v2x.F"), "/v2x.F");
}

#[test]
fn http2_is_the_same_in_all_three_places() {
    let built_in = Patterns::default();
    let at = |function: &str| found(&built_in, "select", &[function]).map(|(_, advice)| advice);
    for (own, bundled) in [
        (".(*serverConn).serve", ".(*http2serverConn).serve"),
        (".(*clientStream).doRequest", ".(*http2clientStream).doRequest"),
        (".(*ClientConn).roundTrip", ".(*http2ClientConn).roundTrip"),
    ] {
        let used = at(&format!("golang.org/x/net/http2{own}"));
        assert!(used.is_some(), "{own}");
        assert_eq!(used, at(&format!("net/http{bundled}")));
        assert_eq!(used, at(&format!("net/http/internal/http2{own}")));
    }
}

/// Calls as they were seen in programs with these libraries, and what ends them. A program that forgets to call a method
/// does not contain it either, so these names cannot be found in the program.
#[test]
fn libraries_name_what_ends_them() {
    let seen: &[(&[&str], &str)] = &[
        (&["github.com/IBM/sarama.(*partitionConsumer).dispatcher"], "PartitionConsumer.Close"),
        (&["github.com/IBM/sarama.(*brokerConsumer).subscriptionConsumer"], "PartitionConsumer.Close"),
        (&["github.com/IBM/sarama.(*asyncProducer).newBrokerProducer.func1"], "the producer's Close"),
        (&["github.com/Shopify/sarama.(*syncProducer).handleErrors"], "SyncProducer.Close"),
        (&["github.com/IBM/sarama.(*Broker).responseReceiver"], "Close it"),
        (&["github.com/redis/go-redis/v9.(*channel).initHealthCheck.func1"], "PubSub.Close"),
        (
            &[
                "github.com/redis/go-redis/v9/internal/pool.(*Conn).WithReader",
                "github.com/redis/go-redis/v9.(*PubSub).Receive",
                "github.com/redis/go-redis/v9.(*channel).initMsgChan.func1",
            ],
            "PubSub.Close",
        ),
        (&["github.com/go-redis/redis/v8.(*PubSub).Receive", "example.com/api.read"], "PubSub.Close"),
        (&["github.com/nats-io/nats%2ego.(*Conn).waitForMsgs"], "Subscription.Unsubscribe"),
        (&["github.com/nats-io/nats%2ego.(*Conn).readLoop"], "Conn.Close"),
        (&["github.com/nats-io/nats%2ego.(*asyncCallbacksHandler).asyncCBDispatcher"], "Conn.Close"),
        (&["github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"], "Pool.Close"),
        (
            &[
                "golang.org/x/sync/semaphore.(*Weighted).Acquire",
                "github.com/jackc/puddle/v2.(*Pool[...]).Acquire",
                "github.com/jackc/pgx/v5/pgxpool.(*Pool).Acquire",
                "example.com/api.query",
            ],
            "rows.Close()",
        ),
        (&["github.com/robfig/cron/v3.(*Cron).run"], "Cron.Stop"),
        (
            &[
                "go.opentelemetry.io/otel/sdk/trace.(*batchSpanProcessor).processQueue",
                "sync.(*WaitGroup).Go.func1",
            ],
            "TracerProvider.Shutdown",
        ),
        (&["go.opentelemetry.io/otel/sdk/metric.(*PeriodicReader).run"], "MeterProvider.Shutdown"),
        (&["github.com/twmb/franz-go/pkg/kgo.(*Client).reapConnectionsLoop"], "Client.Close"),
        (&["go.mongodb.org/mongo-driver/v2/x/mongo/driver/topology.(*pool).maintain"], "Client.Disconnect"),
        (&["go.mongodb.org/mongo-driver/x/mongo/driver/topology.(*Server).update"], "Client.Disconnect"),
        (
            &[
                "golang.org/x/net/http2.(*pipe).Read",
                "k8s.io/apimachinery/pkg/watch.(*StreamWatcher).receive",
            ],
            "call its Stop",
        ),
        (&["k8s.io/client-go/tools/cache.(*processorListener).run"], "stop the informer"),
        (&["go.etcd.io/etcd/client/v3.(*watchGRPCStream).serveSubstream"], "cancel the context"),
        (&["go.etcd.io/etcd/client/v3.(*lessor).keepAliveCtxCloser"], "Revoke the lease"),
    ];
    let built_in = Patterns::default();
    for (functions, end) in seen {
        let Remedy { advice, close, .. } = find(&built_in, &wait("select", functions), MODULE).unwrap();
        assert!(advice.contains(end) || close == Some(end), "{functions:?}: {advice} {close:?}");
    }
}

const OWN: &str = r#"
[[pattern]]
function = 'example\.com/api/hub\.\(\*Hub\)\.loop'
waits = "select"
cause = "chan-receive"
advice = """the hub{made} is left open,
  see {place}"""
close = "(*Hub).Shutdown"

[[pattern]]
function = '^database/sql\.'
cause = "other"
advice = "mine"
"#;

#[test]
fn rows_of_the_user_come_first() {
    let own = Patterns::read(OWN, "team.toml").unwrap();
    let rows = ["database/sql.(*Rows).awaitDone"];
    assert_eq!(found(&own, "select", &rows), Some((Cause::Other, "mine".into())));
    assert_eq!(found(&Patterns::default(), "select", &rows).unwrap().0, Cause::SqlRows);
    let hub = ["example.com/api.wait", "example.com/api/hub.(*Hub).loop"];
    let advice = "the hub{made} is left open, see {place}";
    assert_eq!(found(&own, "select", &hub), Some((Cause::ChanReceive, advice.into())));
    assert_eq!(found(&own, "sleep", &hub), None);
    let remedy = find(&own, &wait("select (durable)", &hub), MODULE).unwrap();
    assert_eq!(remedy.close, Some("(*Hub).Shutdown"));
}

#[test]
fn who_calls_the_program_does_not_count() {
    let text = "[[pattern]]\nfunction = 'serve'\ncause = 'io'\nadvice = 'x'";
    let own = Patterns::read(text, "x").unwrap();
    assert_eq!(found(&own, "select", &["main.handle", "net/http.(*conn).serve"]), None);
    assert!(found(&own, "select", &["main.wait", "github.com/x/y.F", "main.serve"]).is_some());
}

#[test]
fn the_documentation_is_true() {
    let text = include_str!("../../../../../docs/patterns.md");
    let example = text.split("```toml").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let own = Patterns::read(example, "team.toml").unwrap();
    let stack = ["corp.example/bus.(*Subscription).loop"];
    assert_eq!(found(&own, "select", &stack).unwrap().0, Cause::ChanReceive);
    for cause in Cause::ALL {
        assert!(text.contains(&format!("`{}`", cause.name())), "{}", cause.name());
    }
}

#[test]
fn what_is_wrong_with_a_file_is_said_with_its_line() {
    let fine = "[[pattern]]\nfunction = 'f'\ncause = 'io'\nadvice = 'a {place}'\n";
    assert!(Patterns::read(fine, "x").is_ok() && Patterns::read("", "x").is_ok());
    let long = format!("function = '{}'", "(a{1000}){1000}");
    let cases = [
        ("\n[[pattern]\n", 2, "unclosed array table"),
        ("[[pattern]]\nfunction = 'f'\ncause = 'io'\nadvise = 'a'", 4, "unknown field `advise`"),
        ("[[patterns]]\nfunction = 'f'", 1, "unknown field `patterns`"),
        ("\n\n[[pattern]]\nfunction = 'f'\nadvice = 'a'", 3, "missing field `cause`"),
        ("[[pattern]]\nfunction = 7\ncause = 'io'\nadvice = 'a'", 2, "expected a string"),
        (&fine.replace("'io'", "'lost'"), 3, "no such cause: lost; one of chan-receive, "),
        (&fine.replace("'f'", "'f('"), 2, "function: unclosed group"),
        (&fine.replace("function = 'f'", &long), 2, "function: "),
        (&format!("{fine}waits = 'for ever'"), 5, "no such wait: for ever; "),
        (&fine.replace("{place}", "{}"), 4, "braces are for {place}"),
        (&fine.replace("{place}", "{place"), 4, "braces are for {place}"),
        (&fine.replace("{place}", "place}"), 4, "braces are for {place}"),
        (&fine.replace("{place}", "{Place}"), 4, "braces are for {place}"),
        (&format!("{fine}# {}", "x".repeat(1 << 20)), 5, "longer than"),
    ];
    for (text, line, what) in cases {
        let error = Patterns::read(text, "team.toml").unwrap_err();
        assert!(error.what.contains(what), "{error}");
        assert_eq!(error.line, line, "{error}");
        assert!(error.to_string().starts_with(&format!("team.toml:{line}: ")), "{error}");
        assert!(!error.what.contains('\n'), "{error}");
    }
}
