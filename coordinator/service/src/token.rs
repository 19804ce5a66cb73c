//! The operator's token, in a file that only its owner can read.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use openledger_web::Token;

use crate::parts::StartError;

/// The token in the file; makes both when there is none.
pub(crate) fn read_or_make(path: &Path) -> Result<Token, StartError> {
    let failed = |source| StartError::File { path: path.to_owned(), source };
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Token::new(text.trim())?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let token = Token::generate()?;
            let mut options = std::fs::OpenOptions::new();
            let mut file =
                options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            file.write_all(format!("{}\n", token.reveal()).as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            Ok(token)
        }
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_token_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.token");
        let token = read_or_make(&path).unwrap();
        assert!(read_or_make(&path).unwrap().matches(token.reveal()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
