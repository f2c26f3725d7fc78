//! Checks who is said to keep others waiting, and what stands out at statements whose goroutines do several things.

use crate::support::*;
use serde_json::Value;

/// What golife says of the fixture after some seconds, doing this.
fn report(toolchain: &'static str, case: &str) -> Value {
    let build = Build { toolchain: Some(toolchain), ..Build::default() };
    let mut fixture = ready(&fixture("keepers", build), &["-case", case]);
    fixture.write("go");
    fixture.line();
    let pid = fixture.pid().to_string();
    run(&["leaks", "--format", "json", "--for", "15s", "--pid", &pid]).report()
}

fn advice(site: &Value) -> &str {
    site["verdict"]["advice"].as_str().unwrap_or_else(|| panic!("no advice: {site:#}"))
}

#[test]
fn who_keeps_others_waiting_is_named() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let report = report(toolchain, "locks");
        let sites = only_process(&report)["sites"].as_array().unwrap();
        let site = |name: &str| {
            let line = line_of("keepers", name);
            let of_fixture = |site: &&Value| {
                site["site"]["line"] == line
                    && site["site"]["function"].as_str().unwrap().starts_with("main.")
            };
            sites.iter().find(of_fixture).unwrap_or_else(|| panic!("{name}: {report:#}"))
        };
        // A goroutine that only knows the lock, and one of the runtime's, are not named.
        let held =
            format!("is held by a goroutine in select at main.go:{}", line_marked("keepers", "line: holds"));
        assert!(advice(site("held")).contains(&held), "{toolchain}: {}", advice(site("held")));
        let on = &site("held")["waiting"][0]["on"][0];
        assert_eq!((&on["held_by"][0]["count"], &on["taken"]), (&1.into(), &1.into()), "{on:#}");
        assert!(on["held_by"].as_array().unwrap().len() == 1 && on["may_be_held_by"] == Value::Array(vec![]));
        let abandoned = advice(site("abandoned"));
        assert!(
            abandoned.contains("either not released, or its holder does not come on"),
            "{toolchain}: {abandoned}"
        );
        let member = line_marked("keepers", "line: member");
        let group = format!("is 1: Done is still to be called by a goroutine in IO wait at main.go:{member}");
        assert!(advice(site("group")).contains(&group), "{toolchain}: {}", advice(site("group")));
        let slow = advice(site("slow"));
        assert!(slow.contains("changes hands") && slow.contains("/s get it"), "{toolchain}: {slow}");
    }
}

#[test]
fn what_grows_decides_and_not_what_is_most() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let report = report(toolchain, "bodies");
        let sites = only_process(&report)["sites"].as_array().unwrap();
        let dialled = |site: &&Value| site["site"]["function"] == "net/http.(*Transport).dialConn";
        let sites: Vec<&Value> = sites.iter().filter(dialled).collect();
        assert_eq!(sites.len(), 2, "one that reads and one that writes: {report:#}");
        for site in sites {
            assert_eq!(site["verdict"]["cause"], "http-body", "{toolchain}: {site:#}");
            let waiting = site["waiting"].as_array().unwrap();
            assert_eq!(waiting[0]["connection"], "unread", "{toolchain}: {site:#}");
            let idle = waiting.iter().find(|waiting| waiting["connection"] == "idle").unwrap();
            assert!(idle["count"].as_u64().unwrap() >= 90 && idle["grown"] == 0, "{toolchain}: {site:#}");
        }
    }
}

#[test]
fn a_request_owns_its_context() {
    need_root();
    let report = report(NEWEST, "requests");
    let sites = only_process(&report)["sites"].as_array().unwrap();
    let served = sites.iter().find(|site| site["site"]["function"] == "net/http.(*Server).Serve").unwrap();
    assert_eq!(served["verdict"]["cause"], "context", "{served:#}");
    assert!(advice(served).contains("read or discard r.Body before waiting"), "{}", advice(served));
    assert!(!advice(served).contains("defer its cancel"), "{}", advice(served));
}
