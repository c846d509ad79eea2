//! ApiVersions (18), v0–4: which keys and versions are served (KIP-35, KIP-511).

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

use super::{Call, Context, advertised};
use crate::base::error::ErrorCode;
use crate::network::Outcome;

/// From this version on clients name their software.
const FIRST_WITH_SOFTWARE_NAME: i16 = 3;

/// Answers with the table's keys; INVALID_REQUEST and no keys if the client's software name or version is malformed.
pub async fn handle(_ctx: &Context, mut call: Call) -> Outcome {
    let request: ApiVersionsRequest = match call.decode() {
        Ok(request) => request,
        Err(outcome) => return outcome,
    };
    let valid = call.version() < FIRST_WITH_SOFTWARE_NAME
        || (is_valid_name(&request.client_software_name) && is_valid_name(&request.client_software_version));
    let response = if valid {
        ApiVersionsResponse::default().with_api_keys(keys())
    } else {
        ApiVersionsResponse::default().with_error_code(ErrorCode::InvalidRequest.code())
    };
    call.reply(&response)
}

/// The v0 answer to a version this broker does not know: the error, and the versions of ApiVersions itself.
pub fn unsupported(call: &Call) -> Outcome {
    let own = keys().into_iter().filter(|api| api.api_key == call.header.api_key).collect();
    let response =
        ApiVersionsResponse::default().with_error_code(ErrorCode::UnsupportedVersion.code()).with_api_keys(own);
    call.reply_as(&response, 0)
}

fn keys() -> Vec<ApiVersion> {
    advertised()
        .map(|api| {
            ApiVersion::default()
                .with_api_key(api.key)
                .with_min_version(api.min_version)
                .with_max_version(api.max_version)
        })
        .collect()
}

/// KIP-511: letters and digits at both ends, and `.`, `-` between.
fn is_valid_name(name: &str) -> bool {
    let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    alphanumeric(name.chars().next())
        && alphanumeric(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::is_valid_name;

    #[test]
    fn software_names_follow_kip_511() {
        assert!(is_valid_name("apache-kafka-java") && is_valid_name("3.9.1") && is_valid_name("a"));
        assert!(!is_valid_name("") && !is_valid_name("-a") && !is_valid_name("a.") && !is_valid_name("a b"));
    }
}
