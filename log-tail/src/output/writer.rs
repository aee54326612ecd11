//! Who wrote a record, as json says it.
//!
//! A container's own log file is written by its runtime, which reads the container's standard output. Such a file is
//! known by its path, and that names the container: `via` then says that somebody wrote for it.

use std::{ffi::OsStr, path::Path};

use serde::Serialize;

use crate::{
    observe::cgroup::{is_container_id, is_pod_uid},
    record::Written,
};

/// Who wrote a record.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ByWhom<'a> {
    /// One process.
    One(One<'a>),
    /// More than one, and it is not known which of them what.
    Several {
        /// Always true.
        several: bool,
    },
}

/// A process that wrote.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct One<'a> {
    /// In the initial pid namespace.
    pid: u32,
    /// The thread that wrote first of what was read at once.
    tid: u32,
    /// In the initial user namespace.
    uid: u32,
    /// The thread's name.
    comm: &'a str,
    /// Below the root of the cgroup2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    /// The container's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<&'a str>,
    /// The Kubernetes pod's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
    /// What the pod is called, where the file's path says so.
    #[serde(flatten)]
    pod_called: Called<'a>,
    /// Who stands between the writer and the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<Via>,
}

/// A pod's name and what it is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Called<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_name: Option<&'a str>,
}

/// Who wrote for somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Via {
    /// The container's runtime: what it is `pid` and `comm` of.
    Shim,
    /// A thread of the kernel's, which ends what another began: `pid` and `comm` are that thread's.
    Kernel,
}

impl<'a> ByWhom<'a> {
    /// Who wrote to the file at this path; `None` where nobody knows.
    pub fn of(written: &'a Written, path: &'a Path) -> Option<Self> {
        let writer = match written {
            Written::Unknown => return None,
            Written::BySeveral => return Some(Self::Several { several: true }),
            Written::By(writer) => writer,
        };
        let cgroup = writer.cgroup.as_deref();
        let named =
            cgroup.is_none_or(|cgroup| cgroup.container.is_none()).then(|| Container::of(path)).flatten();
        let via = match &named {
            Some(_) => Some(Via::Shim),
            None => writer.is_kernel.then_some(Via::Kernel),
        };
        let named = named.unwrap_or_default();
        Some(Self::One(One {
            pid: writer.pid,
            tid: writer.tid,
            uid: writer.uid,
            comm: &writer.comm,
            cgroup: cgroup.map(|cgroup| cgroup.path.as_str()),
            container: named.id.or_else(|| cgroup?.container.as_deref()),
            pod: named.pod.or_else(|| cgroup?.pod.as_deref()),
            pod_called: named.called,
            via,
        }))
    }
}

/// The container that a runtime's log file is of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Container<'a> {
    id: Option<&'a str>,
    pod: Option<&'a str>,
    called: Called<'a>,
}

impl<'a> Container<'a> {
    /// What the path says: `…/containers/ID/ID-json.log` (docker), `…/containers/POD_NAMESPACE_NAME-ID.log` and
    /// `…/pods/NAMESPACE_POD_UID/NAME/N.log` (kubelet). Nothing that Kubernetes names has an underscore in it.
    fn of(path: &'a Path) -> Option<Self> {
        let mut above = path.ancestors().skip(1).filter_map(|folder| folder.file_name()?.to_str());
        let name = path.file_name().and_then(OsStr::to_str)?.strip_suffix(".log")?;
        let parent = above.next()?;
        if parent == "containers" {
            let (before, id) = name.rsplit_once('-')?;
            let called = match before.split('_').collect::<Vec<_>>()[..] {
                [pod, namespace, _] => Called { namespace: Some(namespace), pod_name: Some(pod) },
                _ => Called::default(),
            };
            return is_container_id(id).then_some(Self { id: Some(id), pod: None, called });
        }
        if is_container_id(parent) && name.strip_suffix("-json") == Some(parent) {
            return Some(Self { id: Some(parent), ..Self::default() });
        }
        let [namespace, pod, uid] = above.next()?.split('_').collect::<Vec<_>>()[..] else { return None };
        let called = Called { namespace: Some(namespace), pod_name: Some(pod) };
        (above.next() == Some("pods") && is_pod_uid(uid)).then_some(Self { id: None, pod: Some(uid), called })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::observe::{Writer, cgroup::Cgroup};

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const POD: &str = "5f1b4e0c-7f0e-4c57-9f3c-1c8f6a0f2a11";

    fn written(cgroup: &str, is_kernel: bool) -> Written {
        let cgroup = Some(Arc::new(Cgroup::at(cgroup.to_owned())));
        Written::By(Arc::new(Writer { pid: 7, tid: 8, uid: 9, comm: "app".into(), is_kernel, cgroup }))
    }

    fn json(written: &Written, path: &str) -> String {
        serde_json::to_string(&ByWhom::of(written, Path::new(path))).unwrap()
    }

    #[test]
    fn a_process_is_named_with_its_container() {
        assert_eq!(
            json(&written(&format!("/docker/{ID}"), false), "/var/log/app.log"),
            format!(r#"{{"pid":7,"tid":8,"uid":9,"comm":"app","cgroup":"/docker/{ID}","container":"{ID}"}}"#)
        );
        assert_eq!(
            json(&written("/", true), "/var/log/app.log"),
            r#"{"pid":7,"tid":8,"uid":9,"comm":"app","cgroup":"/","via":"kernel"}"#
        );
        assert_eq!(json(&Written::BySeveral, "/a"), r#"{"several":true}"#);
        assert_eq!(json(&Written::Unknown, "/a"), "null");
    }

    #[test]
    fn the_path_names_the_container_that_a_shim_wrote_for() {
        let shim = written("/system.slice/containerd.service", false);
        for (path, container, pod) in [
            (format!("/var/lib/docker/containers/{ID}/{ID}-json.log"), Some(ID), None),
            (format!("/var/log/containers/web-0_default_nginx-{ID}.log"), Some(ID), None),
            (format!("/var/log/pods/default_web-0_{POD}/nginx/0.log"), None, Some(POD)),
        ] {
            let called = (!path.contains("docker")).then_some(("default", "web-0"));
            let json: serde_json::Value = serde_json::from_str(&json(&shim, &path)).unwrap();
            assert_eq!(json["via"], "shim", "{path}");
            assert_eq!(json.get("container").and_then(|id| id.as_str()), container, "{path}");
            assert_eq!(json.get("pod").and_then(|uid| uid.as_str()), pod, "{path}");
            let text = |field: &str| json.get(field).and_then(|text| text.as_str());
            assert_eq!(text("namespace").zip(text("pod_name")), called, "{path}");
        }
        for path in ["/var/log/app.log", "/srv/containers/app-1.log", "/srv/pods/a_b_c/d/0.log"] {
            assert!(!json(&shim, path).contains("via"), "{path}");
        }
    }

    #[test]
    fn what_a_container_writes_itself_is_its_own_wherever_that_lies() {
        let inside = written(&format!("/docker/{ID}"), false);
        let other = ID.replace('0', "f");
        let json = json(&inside, &format!("/var/lib/docker/containers/{other}/{other}-json.log"));
        assert!(json.contains(ID) && !json.contains("via"), "{json}");
    }
}
