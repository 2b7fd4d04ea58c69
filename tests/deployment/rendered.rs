//! The manifests as `kubectl apply -k` would send them, rendered and validated by
//! `deploy/kubernetes/validate`.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

use crate::cached::cached;
use crate::instance::Environment;
use crate::shipped;

/// Rendered objects.
#[derive(Clone)]
pub(crate) struct Objects(pub(crate) Vec<Value>);

/// The service, the example Redis, the example ingress.
const FOLDERS: [&str; 3] = ["deploy/kubernetes", "deploy/kubernetes/redis", "deploy/kubernetes/ingress"];

/// All three, rendered once for all tests.
pub(crate) static SHIPPED: LazyLock<[Objects; 3]> = LazyLock::new(|| {
    let rendered = cached("kubernetes", &[shipped(FOLDERS[0])], || {
        let all = validated().map(|objects| Value::from(objects.0));
        Value::from(all.to_vec()).to_string()
    });
    let rendered: [Vec<Value>; 3] = serde_json::from_str(&rendered).unwrap();
    rendered.map(Objects)
});

/// All three, rendered and validated now.
pub(crate) fn validated() -> [Objects; 3] {
    FOLDERS.map(|folder| validate(&shipped(folder)).unwrap_or_else(|complaint| panic!("{complaint}")))
}

/// Renders and validates one kustomization; what the validator printed if it refuses.
pub(crate) fn validate(kustomization: &Path) -> Result<Objects, String> {
    let output = tempfile::tempdir().unwrap();
    let run =
        Command::new(shipped("deploy/kubernetes/validate")).arg(output.path()).arg(kustomization).output();
    let run = run.unwrap();
    let printed = String::from_utf8_lossy(&[run.stdout, run.stderr].concat()).into_owned();
    if !run.status.success() {
        return Err(printed);
    }
    eprintln!("{printed}");
    let name = kustomization.file_name().unwrap().to_str().unwrap();
    let json = std::fs::read(output.path().join(format!("{name}.json"))).unwrap();
    Ok(Objects(serde_json::from_slice(&json).unwrap()))
}

impl Objects {
    /// The only object of a kind.
    pub(crate) fn only(&self, kind: &str) -> &Value {
        let mut found = self.0.iter().filter(|object| object["kind"] == kind);
        let first = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
        assert!(found.next().is_none(), "more than one {kind}");
        first
    }

    /// The same, to break it.
    pub(crate) fn only_mut(&mut self, kind: &str) -> &mut Value {
        self.0.iter_mut().find(|object| object["kind"] == kind).unwrap()
    }

    /// The container of the only deployment.
    pub(crate) fn container(&self) -> &Value {
        let containers =
            self.only("Deployment")["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 1);
        &containers[0]
    }

    /// The environment of the container in a pod of this name.
    pub(crate) fn environment(&self, pod: &str) -> Environment {
        let container = self.container();
        for source in container["envFrom"].as_array().unwrap() {
            assert_eq!(source["configMapRef"]["name"], self.only("ConfigMap")["metadata"]["name"]);
        }
        let data = self.only("ConfigMap")["data"].as_object().unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut environment: Environment =
            data.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        for variable in container["env"].as_array().unwrap() {
            let from_pod = variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name";
            let value = if from_pod { pod.to_owned() } else { text(&variable["value"]) };
            environment.push((text(&variable["name"]), value));
        }
        environment
    }
}
