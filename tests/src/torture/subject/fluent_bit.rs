//! Fluent Bit's tail input, as its documentation has it for following from the beginning with state, and the lines as
//! they are.

use super::{Named, Order};

/// The `fluent-bit` that `$FLUENT_BIT` names, with a configuration of our own.
pub const FLUENT_BIT: Named = Named {
    name: "Fluent Bit",
    variable: "FLUENT_BIT",
    file: "fluent-bit.conf",
    words: &["-c"],
    configuration,
};

fn configuration(order: &Order) -> String {
    let home = order.home.display();
    let paths: Vec<String> = order.patterns().map(|path| path.display().to_string()).collect();
    let paths = paths.join(",");
    format!(
        "[SERVICE]
    Flush 0.2
    Log_File {home}/fluent-bit.log

[INPUT]
    Name tail
    Path {paths}
    DB {home}/fluent-bit.db
    Read_from_Head true
    Refresh_Interval 1
    Buffer_Max_Size 1M

[OUTPUT]
    Name file
    Match *
    Path /dev
    File stdout
    Format template
    Template {{log}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_what_to_follow_and_where_its_own_files_are() {
        let order =
            Order { names: vec!["/a.log".into(), "/b.log".into()], home: "/home".into(), ..Order::default() };
        let text = configuration(&order);
        assert!(text.contains("    Path /a.log,/b.log\n    DB /home/fluent-bit.db\n"), "{text}");
        assert!(text.ends_with("    Template {log}\n"), "{text}");
    }
}
