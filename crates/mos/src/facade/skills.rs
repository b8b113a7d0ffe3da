//! Skills: taken from archives, and given back as archives.

use mos_core::{CubeId, FileData, MemoryId, Outcome, RawFile, RawItem, ReadInput, UserId};
use mos_reader::skill;

use super::{Mos, Remember, Remembered};
use crate::error::{Error, Result};

impl Mos {
    /// Stores the skills of a zip archive, a memory for each, and returns what came of it: every folder with a `SKILL.md` is a
    /// skill, and the texts beside that file belong to it. `name` is what the archive is called. Doing it again changes
    /// nothing.
    ///
    /// The archive itself is not kept: a memory holds all that it says, and goes with its cube, its history and its backups.
    /// Files that are no text are named in the report's warnings.
    ///
    /// ```no_run
    /// # async fn run(mos: mos::Mos) -> Result<(), Box<dyn std::error::Error>> {
    /// let ann = mos_core::UserId::from("ann");
    /// let stored = mos.add_skills(&ann, None, "office.zip", std::fs::read("office.zip")?).await?;
    /// std::fs::write("first.zip", mos.skill_archive(&ann, None, &stored.ids[0]).await?)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Rights; [`Error::Invalid`] for an archive that is damaged, too large unpacked, holds no `SKILL.md`, or an entry that
    /// leaves its folder; nothing of it is kept then.
    pub async fn add_skills(
        &self,
        user: &UserId,
        cube: Option<&CubeId>,
        name: &str,
        archive: Vec<u8>,
    ) -> Result<Remembered> {
        let file = RawFile { id: None, name: Some(name.to_owned()), url: None, data: FileData::Bytes(archive) };
        let input = ReadInput { items: vec![RawItem::Skills(file)], ..ReadInput::default() };
        // Whoever uploads a skill that was removed wants it back.
        let mut what = Remember::new(input).user(user.clone()).told_anew(true);
        if let Some(cube) = cube {
            what = what.cube(cube.clone());
        }
        let stored = self.remember(what).await?;
        let refused = stored.report.items.iter().find(|item| item.outcome == Outcome::NotKept);
        if let Some(item) = refused {
            let why = item.reason.as_deref().unwrap_or("it holds no skills");
            return Err(Error::Invalid(format!("the archive {name} of skills cannot be used: {why}")));
        }
        Ok(stored)
    }

    /// Returns a skill as a zip archive of one folder, as [`Mos::add_skills`] takes it.
    ///
    /// # Errors
    /// Rights; an error for an unknown id; [`Error::Invalid`] for a memory that is no skill.
    pub async fn skill_archive(&self, user: &UserId, cube: Option<&CubeId>, id: &MemoryId) -> Result<Vec<u8>> {
        let item = self.get(user, cube, id).await?;
        skill::write_archive(&item).map_err(|error| Error::Invalid(error.to_string()))
    }
}
