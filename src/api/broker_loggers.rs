//! Resources of type BROKER_LOGGER (KIP-412): the levels of this broker's log, shown by DescribeConfigs and changed by
//! IncrementalAlterConfigs. They hold until the broker stops; ZooKeeper never knows them (`RuntimeLoggerManager`).

use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::protocol::StrBytes;
use tracing::warn;

use crate::admin::AdminError;
use crate::admin::configs::Change;
use crate::base::error::ErrorCode;
use crate::base::ids::BrokerId;
use crate::base::loggers::{Level, Loggers, ROOT};

/// `DescribeConfigsResponse.ConfigSource.DYNAMIC_BROKER_LOGGER_CONFIG`.
const SOURCE: i8 = 6;
/// `LogLevelConfig.VALID_LOG_LEVELS`: a logger may be `OFF`, but not be switched off so.
const MAY_BE_SET: [&str; 6] = ["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARN"];

/// Every logger with the level that holds for it.
pub(super) fn describe(loggers: &Loggers, version: i16) -> Vec<DescribeConfigsResourceResult> {
    let shown = loggers.all().into_iter().map(|(name, level)| {
        // As in Kafka it has no synonyms and no type, and its documentation is empty, not null.
        let mut result = DescribeConfigsResourceResult::default()
            .with_name(StrBytes::from_string(name))
            .with_value(Some(StrBytes::from_string(level.to_string())))
            .with_documentation(Some(StrBytes::default()));
        if version > 0 {
            result.config_source = SOURCE;
        }
        result
    });
    shown.collect()
}

/// Changes levels of broker `name`, which must be `me`: all of `changes`, or none if one of them cannot be.
pub(super) fn alter(
    loggers: &Loggers,
    me: BrokerId,
    name: &str,
    changes: &[(String, Change)],
    validate_only: bool,
) -> Result<(), AdminError> {
    expect_own_id(me, name)?;
    let levels = changes.iter().map(|(logger, change)| Ok((logger, level(loggers, logger, change)?)));
    let levels = levels.collect::<Result<Vec<_>, AdminError>>()?;
    if validate_only {
        return Ok(());
    }
    for (logger, level) in levels {
        loggers.set(logger, level);
        match level {
            Some(level) => warn!("the log level of {logger} is now {level}"),
            None => warn!("{logger} has no log level of its own any more"),
        }
    }
    Ok(())
}

fn expect_own_id(me: BrokerId, name: &str) -> Result<(), AdminError> {
    let invalid = |message| Err(AdminError::new(ErrorCode::InvalidRequest, message));
    match name.parse::<i32>() {
        Ok(id) if id == me.get() => Ok(()),
        Ok(id) => invalid(format!("Unexpected node id. Expected {me}, but received {id}")),
        Err(_) => invalid(format!("Node id must be an integer, but it is: {name}")),
    }
}

/// The level that a change gives; `None` for that of the logger above.
fn level(loggers: &Loggers, logger: &str, change: &Change) -> Result<Option<Level>, AdminError> {
    let no_list = |operation: &str| {
        let message = format!("{operation} operation is not allowed for the BROKER_LOGGER resource");
        Err(AdminError::new(ErrorCode::InvalidRequest, message))
    };
    match change {
        Change::Append(_) => no_list("APPEND"),
        Change::Subtract(_) => no_list("SUBTRACT"),
        _ if !loggers.contains(logger) => {
            Err(AdminError::new(ErrorCode::InvalidConfig, format!("Logger {logger} does not exist!")))
        }
        Change::Delete if logger == ROOT => {
            let message = format!("Removing the log level of the {ROOT} logger is not allowed");
            Err(AdminError::new(ErrorCode::InvalidRequest, message))
        }
        Change::Delete => Ok(None),
        Change::Set(text) => match Level::parse(text).filter(|_| MAY_BE_SET.contains(&text.as_str())) {
            Some(level) => Ok(Some(level)),
            None => {
                let message = format!(
                    "Cannot set the log level of {logger} to {text} as it is not a supported log level. Valid log levels are {}",
                    MAY_BE_SET.join(", ")
                );
                Err(AdminError::new(ErrorCode::InvalidConfig, message))
            }
        },
    }
}
