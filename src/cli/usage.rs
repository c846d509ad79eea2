//! Which options go together, in the words of the original's `CommandLineUtils`.

use anyhow::bail;

/// The options of one command line that were given.
pub struct Given<'a> {
    options: &'a [(&'static str, bool)],
}

impl<'a> Given<'a> {
    /// `options` lists each option's name and whether it was given.
    pub fn new(options: &'a [(&'static str, bool)]) -> Self {
        Self { options }
    }

    /// Whether `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.options.iter().any(|(other, given)| *other == name && *given)
    }

    /// Each of `names` must be given.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn require(&self, names: &[&str]) -> anyhow::Result<()> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => bail!("Missing required argument \"[{name}]\""),
            None => Ok(()),
        }
    }

    /// If `name` is given, none of `others` may be.
    ///
    /// # Errors
    /// Names the first that is.
    pub fn exclude(&self, name: &str, others: &[&str]) -> anyhow::Result<()> {
        match others.iter().find(|other| self.has(name) && **other != name && self.has(other)) {
            Some(other) => bail!("Option \"[{name}]\" can't be used with option \"[{other}]\""),
            None => Ok(()),
        }
    }

    /// If `name` is given, one of `actions` must be the action.
    ///
    /// # Errors
    /// Names the action that is.
    pub fn only_with(&self, name: &str, actions: &[&str], all_actions: &[&str]) -> anyhow::Result<()> {
        let others: Vec<&str> = all_actions.iter().copied().filter(|action| !actions.contains(action)).collect();
        self.exclude(name, &others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_do_not_go_together_are_named() {
        let options = [("create", true), ("delete-config", true), ("topic", false)];
        let given = Given::new(&options);
        assert_eq!(given.require(&["topic"]).unwrap_err().to_string(), "Missing required argument \"[topic]\"");
        let error = given.only_with("delete-config", &["alter"], &["alter", "create"]).unwrap_err();
        assert_eq!(error.to_string(), "Option \"[delete-config]\" can't be used with option \"[create]\"");
        assert!(given.exclude("topic", &["create"]).is_ok());
    }
}
