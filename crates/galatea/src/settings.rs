//! From flags, file and defaults to one configuration: flags override the file, the file overrides the defaults.

use crate::failure::{Usage, hinted};
use galatea_train::Config;
use galatea_train::config::ProcessKind;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A configuration in the making: only what somebody has said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    table: Table,
}

impl Settings {
    /// What a configuration file says, checked by itself first, so that an error names the file and the line.
    ///
    /// # Errors
    /// If there is no such file, it is not TOML, or a key or a value is not one of a configuration.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let origin = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            hinted(
                anyhow::Error::new(error).context(format!("cannot read {origin}")),
                "`galatea config init FILE` writes one to begin with",
            )
        })?;
        let table: Table =
            toml::from_str(&text).map_err(|error| Usage::new(format!("{origin} is not TOML:\n{error}"), FILE_HINT))?;
        // A model without a kind is excused, so it is read with one; the error in the file's own words tells the line.
        let excused = table.get("model").is_some_and(|model| model.get("kind").is_none());
        let settings = Self { table }.with_kind();
        settings.parse(&origin).map_err(|error| match Config::from_toml(&text, &origin) {
            Err(own) if !excused => hinted(own, FILE_HINT),
            _ => hinted(error, FILE_HINT),
        })?;
        Ok(settings)
    }

    /// What a finished configuration says, which is everything.
    pub(crate) fn of(config: &Config) -> Self {
        Self { table: toml::from_str(&config.to_toml()).expect("a configuration writes itself as TOML") }
    }

    /// Whether somebody has said `key`, as in "data.len".
    pub(crate) fn says(&self, key: &str) -> bool {
        let (section, name) = key.split_once('.').unwrap_or(("", key));
        self.table.get(section).and_then(|section| section.get(name)).is_some()
    }

    /// Whether anybody has said anything.
    pub(crate) fn says_anything(&self) -> bool {
        !self.table.is_empty()
    }

    /// The text that somebody has said for `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        let (section, name) = key.split_once('.')?;
        self.table.get(section)?.get(name)?.as_str()
    }

    /// Says `key`, as in "data.len".
    pub(crate) fn set(&mut self, key: &str, value: impl Into<Value>) {
        let (section, name) = key.split_once('.').expect("every setting is in a section");
        let section = self.table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(name.to_owned(), value.into());
        }
    }

    /// Says `key` if there is a value.
    pub(crate) fn set_some(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(key, value);
        }
    }

    /// Says what `--set section.name=value` says.
    ///
    /// # Errors
    /// If it is not of that form.
    pub(crate) fn assign(&mut self, assignment: &str) -> anyhow::Result<()> {
        let form = || {
            Usage::new(
                format!("--set {assignment}: expected SECTION.NAME=VALUE"),
                "for example --set optimizer.clip=0.5",
            )
        };
        let (key, value) = assignment.split_once('=').ok_or_else(form)?;
        let (section, name) = key.trim().split_once('.').ok_or_else(form)?;
        if section.is_empty() || name.is_empty() || self.table.get(section).is_some_and(|s| !s.is_table()) {
            return Err(form().into());
        }
        // A bare word is a string: nobody quotes twice for the shell's sake.
        let value = toml::from_str::<Table>(&format!("value = {value}"))
            .ok()
            .and_then(|mut table| table.remove("value"))
            .unwrap_or_else(|| Value::String(value.trim().to_owned()));
        self.set(key.trim(), value);
        Ok(())
    }

    /// Lays `over` on top: what it says, counts.
    pub(crate) fn overlay(&mut self, over: Self) {
        for (section, values) in over.table {
            match (self.table.get_mut(&section), values) {
                // Another kind of model or loss has other fields.
                (Some(Value::Table(own)), Value::Table(values))
                    if values.get("kind").is_none_or(|k| !has_kinds(&section) || own.get("kind") == Some(k)) =>
                {
                    own.extend(values);
                }
                (_, values) => {
                    self.table.insert(section, values);
                }
            }
        }
    }

    /// The configuration, with the model told the time where its noise needs that and nobody has said otherwise.
    ///
    /// # Errors
    /// If a key or a value is not one of a configuration, or the values do not fit together.
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let settings = self.clone().with_kind();
        let mut config = settings
            .parse("the command line")
            .map_err(|e| hinted(e, "`galatea config init` prints every key with its meaning"))?;
        if !(settings.says("model.time") || settings.says("model.time_conditioning")) {
            config = config.with_time();
        }
        config.validate()?;
        Ok(config)
    }

    fn parse(&self, origin: &str) -> Result<Config, galatea_train::Error> {
        Config::from_toml(&self.table.to_string(), origin)
    }

    /// A model is an encoder, and a loss that of the process, unless its kind is said.
    fn with_kind(mut self) -> Self {
        let process = self.table.get("process").and_then(|process| process.get("kind")).cloned();
        let process: ProcessKind = process.and_then(|kind| kind.try_into().ok()).unwrap_or(ProcessKind::Mask);
        if let Some(Value::Table(objective)) = self.table.get_mut("objective") {
            objective.entry("kind").or_insert_with(|| process.objective().name().into());
        }
        if let Some(Value::Table(model)) = self.table.get_mut("model") {
            model.entry("kind").or_insert_with(|| "encoder".into());
        }
        self
    }
}

/// Whether a section's fields depend on its kind.
fn has_kinds(section: &str) -> bool {
    matches!(section, "model" | "objective")
}

const FILE_HINT: &str = "`galatea config init` prints every key with its meaning";

/// A path as a TOML string.
///
/// # Errors
/// If it is not Unicode, which a configuration file is.
pub(crate) fn path_value(path: &Path) -> anyhow::Result<Value> {
    let text = path.to_str().ok_or_else(|| {
        Usage::new(format!("{} is not a Unicode path", path.display()), "rename the file or the folder")
    })?;
    Ok(Value::String(text.to_owned()))
}

/// The configuration that a checkpoint was trained with; `dir` is its folder or that of its run, whose newest one counts.
///
/// # Errors
/// If there is no checkpoint, or its config.json cannot be read.
pub(crate) fn of_checkpoint(dir: &Path) -> Result<Config, galatea_train::Error> {
    let newest = || {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let named = |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("checkpoint-"));
        entries.filter(|path| named(path) && path.join("state.json").exists()).max()
    };
    let dir = if dir.join("model.safetensors").exists() { Some(dir.to_owned()) } else { newest() }
        .ok_or_else(|| galatea_train::Error::NoCheckpoint { path: dir.to_owned() })?;
    let path = dir.join("config.json");
    let bytes = std::fs::read(&path).map_err(|source| galatea_train::Error::Io { path: path.clone(), source })?;
    serde_json::from_slice(&bytes).map_err(|e| galatea_train::Error::Damaged { path, reason: e.to_string() })
}

/// Where a run is kept: the folder itself, or the run's folder if a checkpoint in it was named.
pub(crate) fn run_folder(dir: &Path) -> PathBuf {
    let is_checkpoint = dir.join("model.safetensors").exists();
    match dir.parent().filter(|parent| is_checkpoint && *parent != Path::new("")) {
        Some(parent) => parent.to_owned(),
        None if is_checkpoint => PathBuf::from("."),
        None => dir.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings { table: toml::from_str(text).expect("TOML") }
    }

    #[test]
    fn flags_override_the_file_and_the_file_the_defaults() -> anyhow::Result<()> {
        let mut all = settings("[data]\nlen = 64\n[training]\nbatch = 7\n[model]\nlayers = 2");
        let mut flags = Settings::default();
        flags.set("training.batch", 9);
        flags.assign("optimizer.clip=0.25")?;
        flags.assign("process.schedule=cosine")?;
        all.overlay(flags);
        let config = all.config()?;
        assert_eq!((config.data.len, config.training.batch), (64, 9));
        assert_eq!((config.optimizer.clip, config.process.schedule.as_str()), (0.25, "cosine"));
        assert_eq!(config.training.steps, Config::default().training.steps);
        assert!(all.says("data.len") && !all.says("data.layout"));
        Ok(())
    }

    #[test]
    fn an_unknown_key_is_named() {
        let mut flags = Settings::default();
        flags.assign("training.bach=3").expect("the form is right");
        assert!(format!("{:#}", flags.config().expect_err("no such key")).contains("bach"));
        for wrong in ["batch=3", "training.batch", ".=1", "=", "training.=3"] {
            assert!(Settings::default().assign(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_configuration_says_itself_back() -> anyhow::Result<()> {
        let config = Config::default();
        assert_eq!(Settings::of(&config).config()?, config);
        Ok(())
    }

    #[test]
    fn noise_that_hides_its_level_gets_the_time() -> anyhow::Result<()> {
        let config = settings("[process]\nkind = \"uniform\"").config()?;
        assert!(config.model.uses_time());
        assert!(settings("[process]\nkind = \"uniform\"\n[model]\ntime = \"none\"").config().is_err());
        Ok(())
    }

    #[test]
    fn a_loss_fits_its_noise() -> anyhow::Result<()> {
        let uniform = settings("[process]\nkind = \"uniform\"\n[objective]").config()?;
        assert_eq!(uniform.objective()?, ProcessKind::Uniform.objective());
        let error = settings("[process]\nkind = \"uniform\"\n[objective]\nkind = \"masked\"").config();
        let error = format!("{:#}", error.expect_err("a mask is needed"));
        assert!(error.contains("objective.kind") && error.contains("\"uniform\""), "{error}");
        Ok(())
    }

    #[test]
    fn another_kind_of_model_takes_nothing_over() -> anyhow::Result<()> {
        let mut all = Settings::of(&Config::default());
        all.overlay(settings("[model]\nkind = \"dit\"\nlayers = 2"));
        assert!(matches!(all.config()?.model, galatea_models::Model::Dit(_)));
        Ok(())
    }
}
