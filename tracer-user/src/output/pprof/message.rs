//! The messages of pprof's profile format, as far as golife writes them: field numbers and types of
//! <https://github.com/google/pprof/blob/main/proto/profile.proto>.

/// `perftools.profiles.Profile`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the numbers of each sample count.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks with their numbers.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Binaries.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in the code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// All text; the first is empty. Others refer to it by index.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Beginning of the time that it covers, in ns since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Its length in ns.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What is sampled.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Every how many of it one sample is taken.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text, by index; pprof shows what does not begin with `#` above its reports.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// Name of the sample type that is shown unless another is asked for.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// `perftools.profiles.ValueType`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ValueType {
    /// Index of its name.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// Index of its unit's name.
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
    /// What else is known of it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// `perftools.profiles.Label`: text or a number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// Index of its name.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Index of its text, or 0.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// Its number, where there is no text.
    #[prost(int64, tag = "3")]
    pub num: i64,
}

/// `perftools.profiles.Mapping`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Mapping {
    /// From 1 on.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Index of the path of its file.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Index of its build id.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Its functions have names, so that pprof looks for none.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Its functions have files.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Its locations have lines.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined calls are frames, too.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// `perftools.profiles.Location`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// From 1 on.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Id of its mapping.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The frame.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// `perftools.profiles.Line`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// Id of its function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// In the function's file; 0 where it is not known.
    #[prost(int64, tag = "2")]
    pub line: i64,
}

/// `perftools.profiles.Function`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Function {
    /// From 1 on.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Index of its name.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Index of its name as the linker has it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// Index of its file's path.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}
