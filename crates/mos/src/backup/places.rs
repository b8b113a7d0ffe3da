//! Where a backup is taken from and restored to, when the record is in a file.

use std::path::{Path, PathBuf};

use mos_config::{Settings, StoreConfig};

use super::DATABASE;
use crate::builder::database_path;
use crate::error::{Error, Result};
use crate::folders;

/// Refuses a database that is not there: opening it would make an empty one, and a backup of that looks like any other.
///
/// # Errors
/// [`Error::Invalid`] when the settings keep the record in a file that does not exist.
pub fn check_source(settings: &Settings, data_dir: Option<&Path>) -> Result<()> {
    if !matches!(settings.store, StoreConfig::Sqlite(_)) {
        return Ok(());
    }
    let database = database_path(settings, data_dir)?;
    if database.is_file() {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "there is no database at {}; name the folder of the data with --data-dir, or the settings with --config",
        database.display()
    )))
}

/// Returns the folder that a backup is restored to: the one that was asked for, else that of the settings.
///
/// # Errors
/// [`Error::Invalid`] when the settings keep the record in a file elsewhere: they would not find what is restored.
pub fn restored_data_dir(settings: &Settings, data_dir: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = data_dir {
        return Ok(folder.to_owned());
    }
    let folder = folders::data_dir(settings)?;
    if matches!(settings.store, StoreConfig::Sqlite(_)) {
        let database = database_path(settings, None)?;
        if database != folder.join(DATABASE) {
            return Err(Error::Invalid(format!(
                "the settings keep the database at {} (store.config.path), and a backup is restored to a folder; name a new \
                 folder with --data-dir, and give the settings that folder as data_dir in place of the path",
                database.display()
            )));
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use mos_config::Setting;
    use serde_json::json;

    use super::*;

    fn settings(path: Option<&Path>, data_dir: &Path) -> Settings {
        let config = path.map_or_else(|| json!({}), |path| json!({"path": path}));
        let store = json!({"backend": "sqlite", "config": config});
        Settings::from_json(&json!({"store": store, "data_dir": data_dir})).unwrap()
    }

    #[test]
    fn what_is_not_there_is_no_source() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let error = check_source(&settings(None, &data), None).unwrap_err().to_string();
        assert!(error.contains("no database") && error.contains("mos.db"), "{error}");
        assert!(check_source(&Settings::default(), Some(&data)).is_err());
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join(DATABASE), "").unwrap();
        check_source(&settings(None, &data), None).unwrap();
        check_source(&Settings::default(), Some(&data)).unwrap();
        let memory = json!({"store": {"backend": "memory", "config": {}}});
        check_source(&Settings::from_json(&memory).unwrap(), Some(&folder.path().join("none"))).unwrap();
    }

    #[test]
    fn a_backup_goes_where_the_settings_look_for_it() {
        let (data, other) = (Path::new("/somewhere/data"), Path::new("/somewhere/real.db"));
        assert_eq!(restored_data_dir(&settings(None, data), None).unwrap(), data);
        assert_eq!(restored_data_dir(&settings(Some(&data.join(DATABASE)), data), None).unwrap(), data);
        let error = restored_data_dir(&settings(Some(other), data), None).unwrap_err().to_string();
        assert!(error.contains("real.db") && error.contains("--data-dir"), "{error}");
        assert_eq!(restored_data_dir(&settings(Some(other), data), Some(data)).unwrap(), data);
    }
}
