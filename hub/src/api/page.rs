//! Pages of lists.

use crate::error::ApiError;

/// Items on a page where nothing is said.
const LIMIT_DEFAULT: u32 = 50;
/// Items on a page at most.
pub const LIMIT_MAX: u32 = 200;

/// The limit asked for.
///
/// # Errors
/// 400 outside of 1 to [`LIMIT_MAX`].
pub fn limit(asked: Option<u32>) -> Result<u32, ApiError> {
    match asked.unwrap_or(LIMIT_DEFAULT) {
        limit @ 1..=LIMIT_MAX => Ok(limit),
        limit => Err(ApiError::malformed(format!("limit = {limit}; from 1 to {LIMIT_MAX} is possible"))),
    }
}

/// Whether a list that was asked for one item more than the page holds goes on; cuts that item off.
pub fn cut<T>(items: &mut Vec<T>, limit: u32) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = items.len() > limit;
    items.truncate(limit);
    more
}

/// The row number in a cursor that the hub gave.
///
/// # Errors
/// 400 for one that it did not.
pub fn number(cursor: Option<&str>) -> Result<Option<i64>, ApiError> {
    let number = cursor.map(str::parse::<i64>).transpose();
    number.map_err(|_| ApiError::malformed("cursor is not one that the hub gave"))
}
