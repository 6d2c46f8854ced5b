//! A value that is dear to make and may be a moment old: made once for all who ask at the same time.

use std::sync::Arc;

use genesis_shared::timestamp::Timestamp;
use tokio::sync::Mutex;

/// See the module.
#[derive(Debug)]
pub struct Cached<T>(Mutex<Option<(Timestamp, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Cached<T> {
    /// The value, at most `age_ms` old. Whoever asks while it is being made waits for it instead of making another.
    ///
    /// # Errors
    /// Those of `make`; they are not kept.
    pub async fn get<E>(
        &self,
        now: Timestamp,
        age_ms: i64,
        make: impl Future<Output = Result<T, E>>,
    ) -> Result<Arc<T>, E> {
        let mut kept = self.0.lock().await;
        if let Some((at, value)) = kept.as_ref()
            // A clock that was set back must not keep it for ever.
            && (0..age_ms).contains(&now.millis_since(*at))
        {
            return Ok(Arc::clone(value));
        }
        let value = Arc::new(make.await?);
        *kept = Some((now, Arc::clone(&value)));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn is_made_once_for_its_time_and_a_failure_is_not_kept() {
        let cached = Cached::default();
        let at = |ms: i64| Timestamp::from_millis(1_790_000_000_000 + ms);
        let get = async |ms: i64, made: Result<u8, ()>| cached.get(at(ms), 1000, async { made }).await.map(|v| *v);
        assert_eq!(get(0, Err(())).await, Err(()));
        assert_eq!(get(0, Ok(1)).await, Ok(1));
        assert_eq!(get(999, Ok(2)).await, Ok(1));
        assert_eq!(get(1000, Ok(3)).await, Ok(3));
        assert_eq!(get(-5, Ok(4)).await, Ok(4));
    }
}
