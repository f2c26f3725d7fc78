//! Which container a process runs in, told from the path of its control group.
//!
//! Container runtimes put each container into a control group of its own, and name it by the container's id. Kubernetes
//! puts the groups of a pod's containers below one that is named by the pod's UID. To read the path, no access to a
//! runtime's socket is needed: it stands in `/proc/PID/cgroup` (cgroups(7)), for both versions of control groups.

use super::files::read_text;

/// A container, as the path of its control group names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerNames {
    /// The id that its runtime gave it: 64 hexadecimal digits, or on Amazon's ECS with Fargate 32 digits, a dash and a
    /// number. `None` where the path has no id.
    pub id: Option<String>,
    /// Its name, if its runtime names containers instead (LXC, systemd-nspawn).
    pub name: Option<String>,
    /// Path of its control group.
    pub cgroup: Option<String>,
    /// UID of the Kubernetes pod that it belongs to; `None` outside Kubernetes.
    pub pod: Option<String>,
}

/// Number of hexadecimal digits in the ids that OCI runtimes give.
const ID: usize = 64;

/// The container that a process runs in. `None` where it runs in none, or where its control groups cannot be read.
pub fn of(pid: u32) -> Option<ContainerNames> {
    parse(&read_text(format!("/proc/{pid}/cgroup")).ok()?)
}

/// Finds the container in the text of `/proc/PID/cgroup`. Under version 1 each controller has its own hierarchy, and
/// not every runtime uses all of them, so the path that says most about a container counts.
fn parse(groups: &str) -> Option<ContainerNames> {
    let paths = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let says = |container: &ContainerNames| {
        let ContainerNames { id, name, pod, .. } = container;
        usize::from(id.is_some()) * 2 + usize::from(name.is_some()) + usize::from(pod.is_some())
    };
    // Of paths that say as much, this takes the last. Lines are in descending order of hierarchies, and number 0, which
    // comes last, is version 2.
    paths.filter_map(in_path).max_by_key(says)
}

fn in_path(path: &str) -> Option<ContainerNames> {
    // Some versions of containerd give runc a name that is meant for systemd, SLICE:PREFIX:ID, and it serves for
    // cgroupfs, too.
    let parts: Vec<&str> = path.split(['/', ':']).filter(|part| !part.is_empty()).collect();
    // The innermost id and pod count: a container can hold others, as the node of a Kubernetes cluster does that is a
    // container itself.
    let id = parts.iter().rev().find_map(|part| id(part));
    let pod = parts.iter().rev().find_map(|part| pod(part));
    let name = name(&parts).filter(|_| id.is_none());
    if id.is_none() && pod.is_none() && name.is_none() {
        return None;
    }
    Some(ContainerNames { id, name, pod, cgroup: Some(path.to_owned()) })
}

/// The container id in one part of a path: `ID` (cgroupfs), or `docker-ID.scope`, `cri-containerd-ID.scope`,
/// `crio-ID.scope`, `libpod-ID.scope` (systemd). With Amazon's ECS on Fargate, it is 32 digits, a dash and a number.
fn id(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let last = part.rsplit('-').next()?;
    if last.len() == ID && is_hex(last) {
        return Some(last.to_owned());
    }
    let (task, number) = part.split_once('-')?;
    let is_fargate = task.len() == 32
        && is_hex(task)
        && !number.is_empty()
        && number.bytes().all(|digit| digit.is_ascii_digit());
    is_fargate.then(|| part.to_owned())
}

/// The UID of a pod in one part of a path: `podUID` (cgroupfs), or `kubepods-burstable-podUID.slice` with underscores
/// in place of dashes (systemd).
fn pod(part: &str) -> Option<String> {
    let uid = match part.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
        None => part.strip_prefix("pod")?.to_owned(),
    };
    // It is a UUID, or for a pod that a file on the node defines (a static pod), a hash.
    let is_uid = uid.len() >= 32 && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_uid.then_some(uid)
}

/// The name of a container in the parts of a path, for runtimes that give names: `machine-NAME.scope` (systemd-nspawn),
/// `lxc.payload.NAME` and `lxc/NAME` (LXC).
fn name(parts: &[&str]) -> Option<String> {
    let named = |(at, part): (usize, &&str)| {
        let machine = part.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"));
        let lxc = || part.strip_prefix("lxc.payload.");
        let old_lxc = || (at > 0 && parts[at - 1] == "lxc").then_some(*part);
        // systemd writes a dash within a name as \x2d.
        machine.or_else(lxc).or_else(old_lxc).map(|name| name.replace("\\x2d", "-"))
    };
    parts.iter().enumerate().rev().find_map(named)
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const INNER: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const UID: &str = "6c1c5a4e-7a3b-4f0e-9d55-2f9a1b0c3d4e";

    fn found(groups: &str) -> [Option<String>; 3] {
        let container = parse(groups).unwrap_or_default();
        [container.id, container.name, container.pod]
    }

    fn expected(id: &str, name: &str, pod: &str) -> [Option<String>; 3] {
        [id, name, pod].map(|text| (!text.is_empty()).then(|| text.to_owned()))
    }

    #[test]
    fn runtimes_name_their_groups() {
        let uid = UID.replace('-', "_");
        let cases = [
            (format!("0::/system.slice/docker-{ID}.scope"), expected(ID, "", "")),
            (format!("12:memory:/docker/{ID}\n0::/"), expected(ID, "", "")),
            (format!("0::/machine.slice/libpod-{ID}.scope/container"), expected(ID, "", "")),
            (format!("0::/system.slice/docker-{ID}.scope/init.scope"), expected(ID, "", "")),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{uid}.slice/cri-containerd-{ID}.scope"
                ),
                expected(ID, "", UID),
            ),
            (format!("0::/kubepods.slice/kubepods-pod{uid}.slice/crio-{ID}.scope"), expected(ID, "", UID)),
            (format!("5:cpu,cpuacct:/kubepods/besteffort/pod{UID}/{ID}"), expected(ID, "", UID)),
            (
                format!("1:name=systemd:/kubepods-besteffort-pod{uid}.slice:cri-containerd:{ID}"),
                expected(ID, "", UID),
            ),
            (
                format!(
                    "0::/docker/{ID}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{uid}.slice/cri-containerd-{INNER}.scope"
                ),
                expected(INNER, "", UID),
            ),
            (
                "0::/ecs/8d1fc8e9d2d44d0f9a3a5c0f5f0e7a11/8d1fc8e9d2d44d0f9a3a5c0f5f0e7a11-1234567890".into(),
                expected("8d1fc8e9d2d44d0f9a3a5c0f5f0e7a11-1234567890", "", ""),
            ),
            ("0::/machine.slice/machine-my\\x2dbox.scope/payload".into(), expected("", "my-box", "")),
            ("0::/lxc.payload.web1/system.slice/api.service".into(), expected("", "web1", "")),
            ("4:devices:/lxc/web1".into(), expected("", "web1", "")),
            // The hierarchy that says most counts.
            (
                format!("3:cpu:/\n2:memory:/docker/{ID}\n1:name=systemd:/init.scope\n0::/"),
                expected(ID, "", ""),
            ),
        ];
        for (groups, expected) in cases {
            assert_eq!(found(&groups), expected, "{groups}");
        }
    }

    #[test]
    fn what_is_no_container_has_none() {
        for groups in [
            "",
            "0::/",
            "0::/user.slice/user-1000.slice/session-3.scope",
            "0::/system.slice/ssh.service",
            "0::/system.slice/podman.service",
            "12:memory:/podium\n0::/init.scope",
            "nonsense",
            "0::/docker-0123.scope",
        ] {
            assert_eq!(parse(groups), None, "{groups}");
        }
    }
}
