//! PUT and GET newest over the native protocol.

use super::Driver;
use crate::cli::args::TestArg;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::client::{Client, ClientOptions};
use crate::model::{Command, Slot, Value};
use crate::protocol::binary::Request;

pub(super) struct NativeDriver {
    client: Client,
    value: Option<Vec<u8>>,
    /// Each put has a later timestamp than the one before, as a collector's would.
    time: i64,
}

impl NativeDriver {
    pub(super) fn connect(target: &Target, value_bytes: Option<usize>) -> Result<Self, CliError> {
        let client = target.client(&ClientOptions::default())?;
        Ok(Self { client, value: value_bytes.map(|bytes| vec![b'x'; bytes]), time: 0 })
    }
}

impl Driver for NativeDriver {
    fn send(&mut self, test: TestArg, keys: &[u64]) -> Result<(), CliError> {
        for key in keys {
            let series = format!("bench:series:{key}");
            let series = series.as_bytes();
            self.time += 1;
            let value = self.value.as_deref().map_or(Value::F64(0.5), Value::Bytes);
            let command = match test {
                TestArg::Put => Command::Put { series, slot: Slot::Time(self.time), value },
                TestArg::Get => Command::GetNewest { series },
            };
            self.client.queue(&Request::Data(command));
        }
        Ok(self.client.send_queued()?)
    }
    fn receive(&mut self, _test: TestArg) -> Result<(), CliError> {
        let (_, answer) = self.client.next_answer()?;
        Ok(answer.map(|_| ())?)
    }
}
