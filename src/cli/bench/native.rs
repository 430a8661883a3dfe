//! PUT and GET newest over the native protocol.

use super::Driver;
use crate::cli::args::TestArg;
use crate::cli::connect::Target;
use crate::cli::error::CliError;
use crate::cli::session::Session;
use crate::model::{Command, Slot, Value};
use crate::protocol::binary::Request;

pub(super) struct NativeDriver {
    session: Session,
    value: Option<Vec<u8>>,
    /// Each put has a later timestamp than the one before, as a collector's would.
    time: i64,
}

impl NativeDriver {
    pub(super) fn connect(target: &Target, value_bytes: Option<usize>) -> Result<Self, CliError> {
        let session = Session::open(target)?;
        Ok(Self { session, value: value_bytes.map(|bytes| vec![b'x'; bytes]), time: 0 })
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
            self.session.queue(&Request::Data(command));
        }
        self.session.flush()
    }
    fn receive(&mut self, _test: TestArg) -> Result<(), CliError> {
        self.session.receive(|_, response| response.map(|_| ()))?.map_err(CliError::from)
    }
}
