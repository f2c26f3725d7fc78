//! The messages of pprof's profile format, as far as golife writes them. Field numbers and types are those of
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>.

/// `perftools.profiles.Profile`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the numbers of each sample count.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The stacks with their numbers.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// The binaries that locations are in.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// The places in the code that samples refer to.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// The functions that locations refer to.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All texts, which other fields refer to by index. The first one is empty.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Beginning of the time that the profile covers, in ns since 1970 (UTC).
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Length of the time that the profile covers, in ns.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What is counted between two samples.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// How many of [`Profile::period_type`] there are between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Indices of free texts in the string table. pprof shows those that do not begin with `#` above its reports.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// Index in the string table of the name of the sample type that is shown unless another one is asked for.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// `perftools.profiles.ValueType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ValueType {
    /// Index of its name in the string table.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Index of its unit's name in the string table.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// `perftools.profiles.Sample`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Ids of its locations, innermost first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One number for each sample type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is known about the sample.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// `perftools.profiles.Label`: a text or a number with a name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// Index of its name in the string table.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Index of its text in the string table, or 0 if it is a number.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// Its number, if there is no text.
    #[prost(int64, tag = "3")]
    pub num: i64,
}

/// `perftools.profiles.Mapping`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Mapping {
    /// Its id, counted from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Index of its file's path in the string table.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Index of its build id in the string table.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Whether its functions have names. If so, pprof does not look for names itself.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Whether its functions have files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Whether its locations have line numbers.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Whether inlined calls have frames as well.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// `perftools.profiles.Location`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Its id, counted from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Id of its mapping.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The frames at this place. golife writes one for each location.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// `perftools.profiles.Line`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// Id of its function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// Number of the line in the function's file; 0 if it is not known.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// `perftools.profiles.Function`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Function {
    /// Its id, counted from 1.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Index of its name in the string table.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Index in the string table of its name as the linker knows it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Index of its file's path in the string table.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
