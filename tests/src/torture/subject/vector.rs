//! Vector's file source, as its documentation has it for following from the beginning with state, and the lines as they
//! are.

use serde_json::json;

use super::{Named, Order};

/// The `vector` that `$VECTOR` names, with a configuration of our own.
pub const VECTOR: Named = Named {
    name: "Vector",
    variable: "VECTOR",
    file: "vector.json",
    words: &["--quiet", "--config"],
    configuration,
};

fn configuration(order: &Order) -> String {
    let paths: Vec<String> = order.patterns().map(|path| path.display().to_string()).collect();
    let configuration = json!({
        "data_dir": order.home,
        "sources": { "files": { "type": "file", "include": paths, "read_from": "beginning" } },
        "sinks": {
            "out": { "type": "console", "inputs": ["files"], "target": "stdout", "encoding": { "codec": "text" } }
        },
    });
    format!("{configuration:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_the_pattern_and_where_its_own_files_are() {
        let order = Order { glob: Some("/logs/*.log".into()), home: "/home".into(), ..Order::default() };
        let told: serde_json::Value = serde_json::from_str(&configuration(&order)).unwrap();
        assert_eq!(told["sources"]["files"]["include"], json!(["/logs/*.log"]));
        assert_eq!(told["data_dir"], "/home");
    }
}
