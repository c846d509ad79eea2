//! What the console tools do in a build without the cargo feature `console`: say so.

use std::process::ExitCode;

use anyhow::bail;

/// Refuses to run.
pub fn run(_args: Vec<String>) -> anyhow::Result<ExitCode> {
    bail!("this barnabas was built without its console tools; build it with the cargo feature 'console' to have them")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_missing_feature_is_named() {
        let refused = super::run(Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("the cargo feature 'console'"), "{refused}");
    }
}
