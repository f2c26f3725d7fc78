//! Traces processes in containers: in other namespaces, on overlay file systems, and in control groups.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{
    Build, Running, attach, check_exact, eventually, fixture, interrupt, need_root, only_process, ready,
    reported, truth,
};

/// The process with this program among the descendants of `parent`, as this pid namespace sees it.
fn descendant(parent: u32, comm: &str) -> u32 {
    let mut found = 0;
    eventually(&format!("a process {comm} below {parent}"), || {
        let children = |pid: u32| {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            children.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>()
        };
        let mut family = vec![parent];
        while let Some(pid) = family.pop() {
            if fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim() == comm {
                found = pid;
            }
            family.extend(children(pid));
        }
        found != 0
    });
    found
}

/// What the kernel tells has the host's ids, so golife in a namespace of its own says that it cannot trace.
#[test]
fn golife_in_a_pid_namespace_of_its_own() {
    need_root();
    let binary = fixture("counts", Build::default());
    let inside = |command: &str| {
        let mut unshare = Command::new("unshare");
        // The program ends with its input, which a job in the background has none of.
        let script = format!("tail -f /dev/null | {} & {command}", binary.display());
        unshare.args(["--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
        let mut shell = Running::start(unshare.env("GOLIFE", env!("CARGO_BIN_EXE_golife")));
        shell.close_stdin();
        shell.wait()
    };
    inside("$GOLIFE trace --pid $! --for 300ms").expect_error(4, &["pid namespace", "--pid=host"]);
    let doctor = inside("$GOLIFE doctor");
    assert!(doctor.stdout.contains("FAIL  pid namespace") && !doctor.status.success(), "{doctor:?}");
    let swept = inside("sleep 0.3; $GOLIFE sweep --name counts");
    assert!(swept.status.success() && swept.stdout.contains("1 Go process,"), "{swept:?}");
}

#[test]
fn namespaces_of_mounts_pids_and_users() {
    need_root();
    let binary = fixture("counts", Build { stripped: true, ..Build::default() });
    let mut inside = Running::start(
        Command::new("unshare")
            .args([
                "--mount",
                "--pid",
                "--user",
                "--map-root-user",
                "--ipc",
                "--net",
                "--fork",
                "--mount-proc",
            ])
            .arg(&binary)
            .args(["-n", "30"]),
    );
    assert_eq!(inside.line(), "ready");
    let pid = descendant(inside.pid(), "counts");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ids = status.lines().find(|line| line.starts_with("NSpid:")).unwrap();
    assert!(ids.ends_with("\t1"), "it is process 1 in there: {ids}");

    let one = attach(&["trace", "--format", "json", "--pid", &pid.to_string()]);
    let two = attach(&["trace", "--format", "json", "--exe", binary.to_str().unwrap()]);
    inside.write("go");
    let truth = truth("counts", &inside.line());
    for golife in [one, two] {
        let report = interrupt(golife);
        let process = report["processes"].as_array().unwrap().iter().find(|process| process["pid"] == pid);
        assert_eq!(reported("counts", process.unwrap_or_else(|| panic!("{report:#}"))), truth);
        check_exact(&report);
    }
}

/// Two containers of one image each have their own view of the same file, so the kernel puts probes on one file for
/// both. A third container whose file was changed has another file.
#[test]
fn overlay_mounts_of_one_image() {
    need_root();
    let image = tempfile::tempdir().unwrap();
    fs::copy(fixture("tiny", Build::default()), image.path().join("server")).unwrap();
    let container = |change: &str| {
        let own = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs none {own} && mkdir {own}/upper {own}/work {own}/merged && \
             mount -t overlay overlay -o lowerdir={image},upperdir={own}/upper,workdir={own}/work {own}/merged && \
             {change} exec {own}/merged/server",
            own = own.path().display(),
            image = image.path().display(),
            change = change.replace("SERVER", &format!("{}/merged/server", own.path().display())),
        );
        let mut running = Running::start(Command::new("unshare").args(["--mount", "sh", "-c", &script]));
        assert_eq!(running.line(), "ready");
        (own, running)
    };
    let mut running =
        [container("").1, container("").1, container("cp SERVER SERVER.new && mv SERVER.new SERVER &&").1];
    let golife = attach(&["trace", "--format", "json", "--name", "^server$"]);
    running.iter_mut().for_each(|running| running.write("go"));
    let truths = running.each_mut().map(|running| truth("tiny", &running.line()));
    let report = interrupt(golife);
    check_exact(&report);
    assert_eq!(report["loss"]["reconciled"], 0, "{report:#}");
    for (running, truth) in running.iter().zip(truths) {
        let processes: Vec<&Value> = report["processes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|process| process["pid"] == running.pid())
            .collect();
        assert_eq!(processes.len(), 1, "{report:#}");
        assert_eq!(reported("tiny", processes[0]), truth);
    }
}

/// A control group that a test has made, which is removed when this is dropped.
struct Group(std::path::PathBuf);

impl Drop for Group {
    fn drop(&mut self) {
        // This may fail, since the kernel lets a group go a moment after its last process has ended. Nothing depends on
        // it.
        let _ = fs::remove_dir(&self.0);
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

#[test]
fn the_control_group_names_container_and_pod() {
    need_root();
    // Control groups are of version 2 alone, of version 2 beside version 1, or of version 1.
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"];
    let usable: Vec<&str> =
        roots.into_iter().filter(|root| Path::new(root).join("cgroup.procs").exists()).collect();
    assert!(!usable.is_empty(), "no control groups on this machine: mount cgroup2 on /sys/fs/cgroup");
    let id = "c0ffee".repeat(11)[..64].to_owned();
    let uid = format!("6c1c5a4e-7a3b-4f0e-9d55-{:012x}", std::process::id());
    for root in usable {
        let pod = Path::new(root).join(format!("kubepods-pod{}.slice", uid.replace('-', "_")));
        let group = Group(pod.join(format!("cri-containerd-{id}.scope")));
        fs::create_dir_all(&group.0).unwrap();
        let running = ready(&fixture("tiny", Build::default()), &[]);
        fs::write(group.0.join("cgroup.procs"), running.pid().to_string()).unwrap();
        for args in [vec!["trace", "--for", "100ms", "--format", "json"], vec!["sweep", "--format", "json"]] {
            let golife = Running::start(
                crate::support::golife().args(args).args(["--pid", &running.pid().to_string()]),
            );
            let report = golife.wait().report();
            let container = &only_process(&report)["container"];
            assert_eq!(container["id"], *id, "{root}: {container}");
            assert_eq!(container["pod"], *uid, "{root}: {container}");
        }
        drop(running);
    }
}
