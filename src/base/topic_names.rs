//! What a topic may be called, and which topics are the cluster's own (Kafka's `Topic.java`).

/// The topic of consumer groups' offsets and generations.
pub const GROUP_METADATA_TOPIC: &str = "__consumer_offsets";
/// The topic of transactions.
pub const TRANSACTION_STATE_TOPIC: &str = "__transaction_state";

/// The longest name: a folder's name must hold it, a partition number, and a suffix.
const MAX_LENGTH: usize = 249;

/// Whether clients may not write to the topic or delete it.
pub fn is_internal(topic: &str) -> bool {
    topic == GROUP_METADATA_TOPIC || topic == TRANSACTION_STATE_TOPIC
}

/// Checks a name; the error says what is wrong with it.
pub fn validate(topic: &str) -> Result<(), String> {
    match topic {
        "" => Err("a topic's name cannot be empty".to_owned()),
        "." | ".." => Err("a topic's name cannot be '.' or '..'".to_owned()),
        _ if topic.len() > MAX_LENGTH => {
            Err(format!("a topic's name cannot be longer than {MAX_LENGTH} characters, and this has {}", topic.len()))
        }
        _ if !topic.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) => Err(format!(
            "the topic name '{topic}' holds a character other than ASCII letters and digits, '.', '_', '-'"
        )),
        _ => Ok(()),
    }
}

/// Whether the two names would give the same metric: there '.' and '_' are one (`Topic.hasCollision`).
pub fn collide(one: &str, other: &str) -> bool {
    one != other && one.replace('.', "_") == other.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_underscores_collide() {
        assert!(collide("a.b", "a_b") && !collide("a.b", "a.b") && !collide("a.b", "a-b"));
    }

    #[test]
    fn names_are_what_a_folder_can_be_called() {
        assert!(validate("a.b_c-9").is_ok() && validate(&"x".repeat(249)).is_ok());
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(validate(bad).is_err(), "{bad}");
        }
        assert!(is_internal("__consumer_offsets") && !is_internal("__consumer_offset"));
    }
}
