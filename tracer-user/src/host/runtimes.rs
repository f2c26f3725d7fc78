//! What container runtimes have written down of a container: its name, its image, and the Kubernetes pod that it belongs to.
//!
//! These are files of the host that belong to root. Neither a runtime's socket nor the API server is asked.
//! - containerd and CRI-O keep the OCI configuration of each container, whose annotations say what the kubelet asked for:
//!   <https://github.com/containerd/containerd/blob/main/internal/cri/annotations/annotations.go>,
//!   <https://github.com/cri-o/cri-o/blob/main/pkg/annotations/annotations.go>.
//! - Docker keeps a configuration of its own.
//! - Podman has a list of all containers.
//! - The kubelet has a folder of logs for each pod, whatever its runtime is:
//!   <https://github.com/kubernetes/kubernetes/blob/master/pkg/kubelet/kuberuntime/helpers.go>.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::container::ContainerNames;

/// What is written down of a container. What is not, or cannot be read, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its name.
    pub name: Option<String>,
    /// The image that it was made from, as it was asked for.
    pub image: Option<String>,
    /// Name of its pod.
    pub pod_name: Option<String>,
    /// Kubernetes namespace of its pod.
    pub namespace: Option<String>,
}

/// The files of the host's first process are those of the host, also where golife runs in a container that shares the host's ids.
const HOST: &str = "/proc/1/root";
/// Where containerd keeps state: its own, and that of distributions which bring it along.
const CONTAINERD: [&str; 3] =
    ["run/containerd", "run/k3s/containerd", "var/snap/microk8s/common/run/containerd"];
/// Most bytes of a file that are read.
const MOST_BYTES: u64 = 16 << 20;
/// Most characters of a name.
const MOST_CHARS: usize = 512;

/// Looks for a container by its id and by the UID of its pod.
pub fn of(container: &ContainerNames) -> Written {
    match below(Path::new(HOST), container) {
        found if is_known(&found) => found,
        // Who may not look through the first process may still be on the host itself.
        _ => below(Path::new("/"), container),
    }
}

fn below(root: &Path, container: &ContainerNames) -> Written {
    let mut written = container.id.as_deref().map(|id| by_id(root, id)).unwrap_or_default();
    if let (None, Some(uid)) = (&written.pod_name, &container.pod)
        && let Some((namespace, pod)) = pod(root, uid)
    {
        (written.namespace, written.pod_name) = (Some(namespace), Some(pod));
    }
    written
}

/// Namespace and name of a pod, by the folder of its logs: `NAMESPACE_NAME_UID`, of which no part has an underscore.
fn pod(root: &Path, uid: &str) -> Option<(String, String)> {
    let folders = std::fs::read_dir(root.join("var/log/pods")).ok()?.flatten();
    let names = folders.filter_map(|folder| folder.file_name().into_string().ok());
    let mut pods = names.filter_map(|name| {
        let (before, last) = name.rsplit_once('_')?;
        let (namespace, pod) = before.split_once('_').filter(|_| last == uid)?;
        Some((namespace.to_owned(), pod.to_owned()))
    });
    pods.next()
}

fn by_id(root: &Path, id: &str) -> Written {
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Written::default();
    }
    let containerd = || {
        let namespaces = CONTAINERD.iter().flat_map(|state| {
            let tasks = root.join(state).join("io.containerd.runtime.v2.task");
            std::fs::read_dir(tasks).into_iter().flatten().flatten().map(|entry| entry.path())
        });
        let configurations = namespaces.map(|namespace| namespace.join(id).join("config.json"));
        configurations.filter_map(|path| read::<Value>(&path)).map(|read| annotated(&read)).find(is_known)
    };
    let storage = |part: &str| root.join(part).join("containers/storage/overlay-containers");
    let crio = || {
        let path = storage("run").join(id).join("userdata/config.json");
        read::<Value>(&path).map(|read| annotated(&read)).filter(is_known)
    };
    let docker = || {
        let path: PathBuf = [root, Path::new("var/lib/docker/containers"), Path::new(id)].iter().collect();
        read::<Value>(&path.join("config.v2.json")).map(|read| docker(&read))
    };
    let podman = || {
        let listed = read::<Vec<Value>>(&storage("var/lib").join("containers.json"))?;
        listed.iter().find(|listed| listed["id"] == id).map(podman)
    };
    containerd().or_else(crio).or_else(docker).or_else(podman).unwrap_or_default()
}

fn is_known(written: &Written) -> bool {
    *written != Written::default()
}

/// What containerd and CRI-O have annotated.
fn annotated(configuration: &Value) -> Written {
    let annotations = &configuration["annotations"];
    let first = |names: &[&str]| names.iter().find_map(|name| text(&annotations[name]));
    Written {
        name: first(&["io.kubernetes.cri.container-name", "io.kubernetes.container.name", "nerdctl/name"]),
        image: first(&["io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"]),
        pod_name: first(&["io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"]),
        namespace: first(&["io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"]),
    }
}

/// What Docker has written, and the kubelet's labels where it used Docker.
fn docker(configuration: &Value) -> Written {
    let labels = &configuration["Config"]["Labels"];
    let name = text(&configuration["Name"]).map(|name| name.trim_start_matches('/').to_owned());
    Written {
        name: text(&labels["io.kubernetes.container.name"]).or(name),
        image: text(&configuration["Config"]["Image"]),
        pod_name: text(&labels["io.kubernetes.pod.name"]),
        namespace: text(&labels["io.kubernetes.pod.namespace"]),
    }
}

/// One of those that Podman lists. What it says of the image is JSON within a text.
fn podman(listed: &Value) -> Written {
    let metadata = listed["metadata"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let metadata = metadata.unwrap_or_default();
    Written {
        name: text(&listed["names"][0]).or_else(|| text(&metadata["name"])),
        image: text(&metadata["image-name"]),
        ..Written::default()
    }
}

fn text(value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| !text.is_empty())?;
    Some(text.chars().take(MOST_CHARS).collect())
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // Nobody but root writes there. A pipe would still keep golife waiting.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    file.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= MOST_BYTES)?;
    let mut text = String::new();
    file.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

/// The workload that a pod belongs to, by the pod's name. Controllers add to their own name: a Deployment the hash of its template
/// and five letters, a DaemonSet or a Job five letters, a CronJob the minute before these, and a StatefulSet a number
/// (<https://kubernetes.io/docs/concepts/workloads/>).
pub fn workload(pod: &str) -> &str {
    let cut = |name: &str, is_added: fn(&str) -> bool| {
        let (before, last) = name.rsplit_once('-')?;
        (!before.is_empty() && is_added(last)).then_some(before.len())
    };
    if let Some(end) = cut(pod, is_number) {
        return &pod[..end];
    }
    let Some(end) = cut(pod, |part| part.len() == 5 && is_drawn(part)) else { return pod };
    let owner = &pod[..end];
    let end = cut(owner, |part| (6..=10).contains(&part.len()) && is_drawn(part))
        .or_else(|| cut(owner, |part| part.len() >= 8 && is_number(part)));
    end.map_or(owner, |end| &owner[..end])
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether all letters are those that Kubernetes draws from, which spell no words:
/// <https://github.com/kubernetes/apimachinery/blob/master/pkg/util/rand/rand.go>.
fn is_drawn(part: &str) -> bool {
    part.bytes().all(|letter| b"bcdfghjklmnpqrstvwxz2456789".contains(&letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn written(path: &str, text: &str) -> Written {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(path.replace("ID", ID));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("ID", ID)).unwrap();
        by_id(root.path(), ID)
    }

    fn expected(name: &str, image: &str, pod: &str, namespace: &str) -> Written {
        let [name, image, pod_name, namespace] =
            [name, image, pod, namespace].map(|text| (!text.is_empty()).then(|| text.to_owned()));
        Written { name, image, pod_name, namespace }
    }

    #[test]
    fn runtimes_have_written_names() {
        let cri = r#"{"ociVersion":"1.1.0","annotations":{"io.kubernetes.cri.container-name":"server",
            "io.kubernetes.cri.image-name":"registry.example.com/api:v2","io.kubernetes.cri.sandbox-name":"api-7d9f8b6c5-x2x9z",
            "io.kubernetes.cri.sandbox-namespace":"shop"}}"#;
        let pod = expected("server", "registry.example.com/api:v2", "api-7d9f8b6c5-x2x9z", "shop");
        assert_eq!(written("run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json", cri), pod);
        assert_eq!(
            written("run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json", cri),
            pod
        );
        let crio = r#"{"annotations":{"io.kubernetes.container.name":"server","io.kubernetes.cri-o.ImageName":"quay.io/api:v2",
            "io.kubernetes.pod.name":"api-0","io.kubernetes.pod.namespace":"shop"}}"#;
        assert_eq!(
            written("run/containers/storage/overlay-containers/ID/userdata/config.json", crio),
            expected("server", "quay.io/api:v2", "api-0", "shop")
        );
        let docker = r#"{"Name":"/web","Config":{"Image":"nginx:1.27","Labels":{}}}"#;
        assert_eq!(
            written("var/lib/docker/containers/ID/config.v2.json", docker),
            expected("web", "nginx:1.27", "", "")
        );
        let podman = r#"[{"id":"other","names":["no"]},
            {"id":"ID","names":["web"],"metadata":"{\"image-name\":\"docker.io/library/nginx:latest\",\"name\":\"web\"}"}]"#;
        assert_eq!(
            written("var/lib/containers/storage/overlay-containers/containers.json", podman),
            expected("web", "docker.io/library/nginx:latest", "", "")
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_says_nothing() {
        let path = "run/containerd/io.containerd.runtime.v2.task/k8s.io/ID/config.json";
        for text in ["", "{", "[]", "null", r#"{"annotations":7}"#, r#"{"annotations":{"nerdctl/name":[]}}"#]
        {
            assert_eq!(written(path, text), Written::default(), "{text}");
        }
        let root = tempfile::tempdir().unwrap();
        for id in ["", "..", "../../etc", "a/b"] {
            assert_eq!(by_id(root.path(), id), Written::default(), "{id}");
        }
        let long = format!(r#"{{"annotations":{{"nerdctl/name":"{}"}}}}"#, "n".repeat(9999));
        assert_eq!(written(path, &long).name.map(|name| name.len()), Some(MOST_CHARS));
    }

    #[test]
    fn the_kubelet_names_a_pod_where_nobody_else_does() {
        const UID: &str = "6c1c5a4e-7a3b-4f0e-9d55-2f9a1b0c3d4e";
        let root = tempfile::tempdir().unwrap();
        for folder in [format!("shop_api-0_{UID}"), format!("x_{UID}"), "kube-system_dns-0_other".into()] {
            std::fs::create_dir_all(root.path().join("var/log/pods").join(folder)).unwrap();
        }
        let container = |pod: &str| ContainerNames { pod: Some(pod.into()), ..ContainerNames::default() };
        assert_eq!(below(root.path(), &container(UID)), expected("", "", "api-0", "shop"));
        assert_eq!(below(root.path(), &container("none")), Written::default());
    }

    #[test]
    fn a_pod_is_named_after_its_workload() {
        for (pod, expected) in [
            ("api-7d9f8b6c5-x2x9z", "api"),
            ("checkout-api-6b8c9d7f4d-8zkwl", "checkout-api"),
            ("node-agent-4xk2p", "node-agent"),
            ("db-0", "db"),
            ("db-12", "db"),
            ("report-28812345-2xk9z", "report"),
            ("api", "api"),
            ("my-first-service", "my-first-service"),
            ("api-hello", "api-hello"),
            ("-0", "-0"),
            ("", ""),
        ] {
            assert_eq!(workload(pod), expected, "{pod}");
        }
    }
}
