//! What `hist` and `capacity` put together: all of a service, or all of a creation site, and how rows of such groups are read.

use anyhow::Context;
use datafusion::arrow::array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use golife::human;
use serde_json::{Map, Value};

use crate::arguments::{Grouping, Per};
use crate::queries::literal;

/// What tells a site from others. Lines move, so the largest of them is only a hint.
pub const SITE: &str = "service, module, function, ordinal";

/// A service, or a creation site of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// What the processes are to the people who run them.
    pub service: String,
    /// The site, if there is one.
    pub site: Option<Site>,
}

/// A creation site, wherever its line is now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site {
    /// Path of the program's main module.
    pub module: Option<String>,
    /// The function that the `go` statement is in.
    pub function: String,
    /// Which `go` statement of its function it is, from 1.
    pub ordinal: Option<u32>,
}

impl Group {
    /// How people read it.
    pub fn name(&self) -> String {
        let Some(site) = &self.site else { return human::clean(&self.service) };
        let ordinal = site.ordinal.map(|ordinal| format!("#{ordinal}")).unwrap_or_default();
        human::clean(&format!("{}{ordinal}", human::short_function(&site.function)))
    }

    /// What JSON has of it.
    pub fn json(&self) -> Map<String, Value> {
        let mut json = Map::new();
        json.insert("service".into(), self.service.as_str().into());
        if let Some(site) = &self.site {
            json.insert("module".into(), site.module.as_deref().into());
            json.insert("function".into(), site.function.as_str().into());
            json.insert("ordinal".into(), site.ordinal.into());
        }
        json
    }
}

impl Grouping {
    /// The columns in SQL that tell groups apart.
    pub fn columns(&self) -> &'static str {
        match self.by {
            Per::Service => "service",
            Per::Site => SITE,
        }
    }

    /// A table in SQL, or what is wanted of it.
    pub fn of(&self, table: &str) -> String {
        match &self.service {
            Some(_) => format!("(SELECT * FROM {table} {})", self.condition()),
            None => table.into(),
        }
    }

    /// The condition in SQL of what is wanted, which is empty where all is.
    pub fn condition(&self) -> String {
        let service = self.service.as_deref().map(literal);
        service.map_or_else(String::new, |service| format!("WHERE service = {service}"))
    }
}

/// The columns of a batch, whatever their types are.
pub struct Columns<'a>(&'a RecordBatch);

impl<'a> Columns<'a> {
    /// Those of this batch.
    pub fn of(batch: &'a RecordBatch) -> Columns<'a> {
        Columns(batch)
    }

    /// A column as it is.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn column(&self, name: &str) -> anyhow::Result<&ArrayRef> {
        self.0.column_by_name(name).with_context(|| name.to_owned())
    }

    /// A column of integers.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn integers(&self, name: &str) -> anyhow::Result<Int64Array> {
        let column = cast(self.column(name)?, &DataType::Int64)?;
        Ok(column.as_any().downcast_ref::<Int64Array>().with_context(|| name.to_owned())?.clone())
    }

    /// A column of numbers.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn numbers(&self, name: &str) -> anyhow::Result<Float64Array> {
        let column = cast(self.column(name)?, &DataType::Float64)?;
        Ok(column.as_any().downcast_ref::<Float64Array>().with_context(|| name.to_owned())?.clone())
    }

    /// Several columns of numbers.
    ///
    /// # Errors
    /// One is missing.
    pub fn all<const N: usize>(&self, names: [&str; N]) -> anyhow::Result<[Float64Array; N]> {
        let columns: Vec<_> = names.iter().map(|name| self.numbers(name)).collect::<Result<_, _>>()?;
        columns.try_into().map_err(|_| anyhow::anyhow!("columns are missing"))
    }

    /// A column of texts.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn texts(&self, name: &str) -> anyhow::Result<StringArray> {
        let column = cast(self.0.column_by_name(name).with_context(|| name.to_owned())?, &DataType::Utf8)?;
        Ok(column.as_any().downcast_ref::<StringArray>().with_context(|| name.to_owned())?.clone())
    }

    /// The group that each row belongs to.
    ///
    /// # Errors
    /// A column is missing.
    pub fn groups(&self) -> anyhow::Result<Vec<Group>> {
        let services = self.texts("service")?;
        let rows = 0..self.0.num_rows();
        if self.0.column_by_name("function").is_none() {
            return Ok(rows
                .map(|row| Group { service: services.value(row).to_owned(), site: None })
                .collect());
        }
        let (modules, functions) = (self.texts("module")?, self.texts("function")?);
        let ordinals = self.numbers("ordinal")?;
        let site = |row| Site {
            module: modules.is_valid(row).then(|| modules.value(row).to_owned()),
            function: functions.value(row).to_owned(),
            ordinal: ordinals.is_valid(row).then(|| ordinals.value(row) as u32),
        };
        Ok(rows.map(|row| Group { service: services.value(row).to_owned(), site: Some(site(row)) }).collect())
    }
}
