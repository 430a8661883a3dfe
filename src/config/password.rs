//! The clients' password: read from a file that only its owner can read, never printed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use subtle::ConstantTimeEq;

/// Longest password that is read; the protocols carry no longer one.
const PASSWORD_BYTES_MAX: usize = 1024;

/// A password. Its `Debug` form hides it, so that no log line or panic message can hold it.
#[derive(Clone)]
pub struct Password(Box<[u8]>);

impl Password {
    /// The bytes, for hashing or for sending. Never log them.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}
impl PartialEq for Password {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Reads a password file: its content without one trailing line end.
///
/// # Errors
/// A sentence fragment with the remedy: missing, no regular file, readable by others, empty or too long.
pub fn read_password_file(path: &Path) -> Result<Password, String> {
    let shown = path.display();
    let describe = |error: std::io::Error| format!("{shown}: {error}");
    // Looked at before it is opened, because opening a fifo waits for a writer.
    if !std::fs::metadata(path).map_err(describe)?.is_file() {
        return Err(format!("{shown} is no regular file"));
    }
    let file = File::open(path).map_err(describe)?;
    let mode = file.metadata().map_err(describe)?.mode();
    // systemd grants a service its credentials through an ACL, whose mask shows up as group permission.
    let forbidden = if is_systemd_credential(path) { 0o037 } else { 0o077 };
    if mode & forbidden != 0 {
        return Err(format!(
            "{shown} has mode {:04o}, so others can read it; run: chmod 600 {shown}",
            mode & 0o7777
        ));
    }
    let mut content = Vec::new();
    file.take(PASSWORD_BYTES_MAX as u64 + 3).read_to_end(&mut content).map_err(describe)?;
    let content = content.strip_suffix(b"\n").unwrap_or(&content);
    let content = content.strip_suffix(b"\r").unwrap_or(content);
    match content.len() {
        0 => Err(format!("{shown} is empty; a password needs at least one byte")),
        1..=PASSWORD_BYTES_MAX => Ok(Password(content.into())),
        _ => Err(format!("{shown} holds more than {PASSWORD_BYTES_MAX} bytes, so it is no password")),
    }
}

/// Whether systemd's `LoadCredential=` put the file there.
fn is_systemd_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(directory: &tempfile::TempDir, content: &[u8], mode: u32) -> PathBuf {
        let path = directory.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn password_is_the_file_without_its_line_end() {
        // An editor's final newline would otherwise lock every client out.
        let directory = tempfile::tempdir().unwrap();
        for content in [&b"geheim\n"[..], b"geheim\r\n", b"geheim"] {
            let password = read_password_file(&file(&directory, content, 0o600)).unwrap();
            assert_eq!(password.reveal(), b"geheim");
            assert_eq!(format!("{password:?}"), "Password(hidden)");
        }
    }

    #[test]
    fn file_that_others_can_read_is_refused_with_the_remedy() {
        // A world-readable secret is none.
        let directory = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o660] {
            let reason = read_password_file(&file(&directory, b"x", mode)).unwrap_err();
            assert!(reason.contains("chmod 600"), "{mode:o}: {reason}");
        }
    }

    #[test]
    fn empty_endless_and_missing_files_are_refused() {
        // An empty password would let everyone in; /dev/zero would fill the memory.
        let directory = tempfile::tempdir().unwrap();
        assert!(read_password_file(&file(&directory, b"\n", 0o600)).is_err());
        assert!(read_password_file(&file(&directory, &[b'x'; PASSWORD_BYTES_MAX + 1], 0o600)).is_err());
        assert!(read_password_file(Path::new("/dev/zero")).is_err());
        assert!(read_password_file(directory.path()).is_err());
        assert!(read_password_file(&directory.path().join("absent")).is_err());
    }
}
