//! What a server needs before the first operation.

use super::error::LoadError;
use super::resp_client::RespValue;
use super::target::Target;
use super::workload::{Dialect, SampleEncoder, WorkloadOptions, all_series};

/// Commands sent before their replies are read.
const WINDOW: usize = 1000;

/// Creates the series that TS.MADD will write to; other commands create them as they write.
///
/// # Errors
/// When the server refuses one for another reason than that it is there.
pub(super) fn create_series(target: &Target, workload: &WorkloadOptions) -> Result<(), LoadError> {
    let Some(rows) = workload.rows().filter(|rows| rows.dialect == Dialect::Series && rows.batch > 1) else {
        return Ok(());
    };
    let mut client = target.resp_client()?;
    let mut encoder = SampleEncoder::new(rows);
    let mut key = Vec::new();
    let mut samples = all_series(rows).peekable();
    while samples.peek().is_some() {
        let mut sent = 0;
        for sample in samples.by_ref().take(WINDOW) {
            key.clear();
            encoder.put_name(&mut key, &sample);
            client.queue(&[b"TS.CREATE", &key, b"DUPLICATE_POLICY", b"LAST"]);
            sent += 1;
        }
        client.send_queued()?;
        for _ in 0..sent {
            if let RespValue::Error(text) = client.reply()?
                && !text.contains("already exists")
            {
                return Err(LoadError::Server(format!("TS.CREATE: {text}")));
            }
        }
    }
    Ok(())
}
