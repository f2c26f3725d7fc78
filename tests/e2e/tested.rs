//! A program that runs tests, without `go test`, so that it runs wherever the other fixtures do: each goroutine that a test leaves
//! behind is given to that test.

use golife::report::{Report, TestKind};

use crate::support::*;

#[test]
fn each_test_has_its_own_goroutines() {
    need_root();
    for toolchain in [OLDEST, NEWEST] {
        let binary = fixture("tested", Build { toolchain: toolchain.into(), ..Build::default() });
        let output = tempfile::NamedTempFile::new().unwrap();
        let mut golife = golife();
        // What is left behind has outlived its test by that, also where nobody can look at the end.
        golife.args(["run", "--grace", "50ms", "--format", "json", "--output"]).arg(output.path());
        let mut running = Running::start(golife.arg("--").arg(&binary));
        running.close_stdin();
        let ended = running.wait();
        assert!(ended.status.success(), "{ended:?}");
        let report: Report = serde_json::from_str(&std::fs::read_to_string(output.path()).unwrap()).unwrap();
        let told = |kind: TestKind| report.tests.iter().filter(move |test| test.kind == kind);
        let leaked: Vec<_> = told(TestKind::Test)
            .filter(|test| test.leaked_count > 0)
            .map(|test| (test.test.as_str(), test.leaked_count))
            .collect();
        assert_eq!(
            leaked,
            [("TestParallel/5", 1), ("TestParts/leaks", 2)],
            "{toolchain}: {:#?}",
            report.tests
        );
        // Two tests with their parts, and the last one.
        assert_eq!(told(TestKind::Test).map(|test| test.runs - test.unfinished).sum::<u64>(), 13);
        let kept: u64 = told(TestKind::TestMain).map(|test| test.living + test.leaked_count).sum();
        assert_eq!(kept, 1, "{toolchain}: {:#?}", report.tests);
    }
}
