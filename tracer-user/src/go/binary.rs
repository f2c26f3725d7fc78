//! Everything that golife knows about one executable file. It is the same for all processes that run the file, so it is
//! made once and shared.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::globals::Globals;
use super::modules::Module;
use super::standard;
use super::statements::Statements;
use crate::go::file::budget::TooMuch;
use crate::go::file::buildinfo::{BuildInfo, GoVersion};
use crate::go::file::error::{GoError, GoErrorKind};
use crate::go::file::image::{Architecture, Image};
use crate::go::file::symbols;
use crate::go::functions::header::Header;
use crate::go::functions::inline::Inlined;
use crate::go::functions::moduledata::ModuleData;
use crate::go::functions::pclntab::{CodeFrame, FrameSize, Function, Pclntab};
use crate::go::runtime::layout::Layout;
use crate::go::runtime::layout_choice::{self, LayoutSource};
use crate::go::runtime::{system, versions};

/// A Go executable. All addresses are link-time addresses: subtract the process's load bias
/// ([`Image::load_bias`]) from those seen at run time. Share it in an [`Arc`].
#[derive(Clone)]
pub struct Binary {
    image: Arc<Image>,
    table: Arc<Pclntab>,
    /// The plugins that one process has loaded: see [`Binary::with_modules`].
    modules: Vec<Module<Binary>>,
    build_info: BuildInfo,
    build_id: Option<String>,
    layout: Layout,
    layout_source: LayoutSource,
    unread: Option<TooMuch>,
    globals: OnceLock<Result<Globals, String>>,
    wrapper_id: OnceLock<Option<u8>>,
    standard_root: OnceLock<String>,
    opens_plugins: OnceLock<bool>,
    ending_methods: Arc<OnceLock<Vec<String>>>,
    statements: Arc<Statements>,
    is_test: OnceLock<bool>,
    under_test: OnceLock<Option<String>>,
}

impl Binary {
    /// Reads an executable that is already open. `display_path` is for messages only.
    ///
    /// # Errors
    /// Not an ELF file, truncated, corrupt, for another CPU, not a Go program, too old: see [`GoErrorKind`].
    pub fn open(file: &File, display_path: &Path) -> Result<Binary, GoError> {
        let image = Image::open(file, display_path)?;
        if Some(image.architecture()) != Architecture::HOST {
            let found = image.architecture().name().into();
            let kind = GoErrorKind::OtherArchitecture { found, host: std::env::consts::ARCH };
            return Err(GoError::new(display_path, kind));
        }
        Binary::from_image(image)
    }

    /// Reads an executable for any CPU that golife knows, which need not be this machine's.
    ///
    /// # Errors
    /// The same as [`Binary::open`], but for the CPU.
    pub fn open_foreign(file: &File, display_path: &Path) -> Result<Binary, GoError> {
        Binary::from_image(Image::open(file, display_path)?)
    }

    pub(crate) fn from_image(image: Image) -> Result<Binary, GoError> {
        let image = Arc::new(image);
        Binary::read(image.clone()).map_err(|kind| GoError::new(image.path(), kind))
    }

    /// Reads a plugin. It is built by the same toolchain as the program that opens it, so it has the same layout; up to
    /// Go 1.18 it has no build info.
    ///
    /// # Errors
    /// The same as [`Binary::open`].
    pub fn open_plugin(file: &File, display_path: &Path, host: &Binary) -> Result<Binary, GoError> {
        let image = Arc::new(Image::open(file, display_path)?);
        let unsaid = |_| BuildInfo { path: None, module: None, ..host.build_info.clone() };
        let info = BuildInfo::read(&image, versions::OLDEST).unwrap_or_else(unsaid);
        let plugin = Binary::with_info(image, info).map_err(|kind| GoError::new(display_path, kind))?;
        Ok(Binary { layout: host.layout, layout_source: host.layout_source, ..plugin })
    }

    /// Whether it runs tests, as what `go test` builds does.
    pub fn is_test(&self) -> bool {
        *self.is_test.get_or_init(|| self.table.has_name("testing.(*M).Run"))
    }

    /// Import path of the package whose tests it runs; `None` where it runs none, or it is not known.
    pub fn package_under_test(&self) -> Option<&str> {
        let find = || match &self.build_info.path {
            _ if !self.is_test() => None,
            Some(path) => Some(path.strip_suffix(".test").unwrap_or(path).to_owned()),
            None => self.table.package_under_test(),
        };
        self.under_test.get_or_init(find).as_deref()
    }

    /// Path of the main module, to tell the program's own code from others'. Where a test binary does not say, it is the path of
    /// the package under test.
    pub fn module(&self) -> Option<&str> {
        self.build_info.module.as_deref().or_else(|| self.package_under_test())
    }

    /// Offset in bytes of the name of a test in `testing.T`, `testing.B` and `testing.F`. For a version that nobody has measured
    /// it is that of the newest one that was.
    pub fn test_name_offset(&self) -> u16 {
        versions::test_name_offset(self.build_info.version)
    }

    fn read(image: Arc<Image>) -> Result<Binary, GoErrorKind> {
        image.prefetch_sections(&[".go.buildinfo", ".go.module", ".noptrdata"]);
        let build_info = match BuildInfo::read(&image, versions::OLDEST) {
            // A program without build info still is a Go program if it has a function table.
            Err(GoErrorKind::NoBuildInfo) => match Header::find(&image) {
                // All versions have the range of the data in the same place of the module data, so any version will do.
                Ok(header) => ModuleData::find(&image, versions::OLDEST, &header)
                    .and_then(|module| BuildInfo::of_variable(&image, module.data, versions::OLDEST))?,
                Err(GoErrorKind::NotGo) if is_packed(&image) => return Err(GoErrorKind::Packed),
                Err(GoErrorKind::NotGo) if Header::has_section(&image) => {
                    return Err(GoErrorKind::Obfuscated);
                }
                Err(other) => return Err(other),
            },
            // This is the version that garble writes.
            Err(GoErrorKind::UnknownVersion(version)) if version == "unknown" => {
                return Err(GoErrorKind::Obfuscated);
            }
            other => other?,
        };
        Binary::with_info(image, build_info)
    }

    fn with_info(image: Arc<Image>, build_info: BuildInfo) -> Result<Binary, GoErrorKind> {
        let header = Header::find(&image).map_err(|kind| match kind {
            GoErrorKind::NotGo if Header::has_section(&image) => GoErrorKind::Obfuscated,
            GoErrorKind::NotGo => GoErrorKind::Missing {
                what: "its function table (pclntab)".into(),
                why: "no part of the file begins as one".into(),
            },
            other => other,
        })?;
        header.prefetch(&image);
        let module = ModuleData::find(&image, build_info.version, &header)?;
        let table = Arc::new(Pclntab::new(image.clone(), header, module)?);
        let (layout, layout_source, unread) = layout_choice::choose(&image, &build_info);
        let build_id = image.gnu_build_id().or_else(|| image.go_build_id());
        Ok(Binary {
            image,
            table,
            modules: Vec::new(),
            build_info,
            build_id,
            layout,
            layout_source,
            unread,
            globals: OnceLock::new(),
            wrapper_id: OnceLock::new(),
            standard_root: OnceLock::new(),
            opens_plugins: OnceLock::new(),
            ending_methods: Arc::default(),
            statements: Arc::default(),
            is_test: OnceLock::new(),
            under_test: OnceLock::new(),
        })
    }

    /// The file as the caller of [`Binary::open`] called it.
    pub fn path(&self) -> &Path {
        self.image.path()
    }

    /// The ELF file.
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// The linker's build id: GNU's in hexadecimal, else Go's.
    pub fn build_id(&self) -> Option<&str> {
        self.build_id.as_deref()
    }

    /// Version, module and settings of the build.
    pub fn build_info(&self) -> &BuildInfo {
        &self.build_info
    }

    /// The Go release it was built with.
    pub fn version(&self) -> GoVersion {
        self.build_info.version
    }

    /// Where the fields of the runtime's structs are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where [`Binary::layout`] is from.
    pub fn layout_source(&self) -> LayoutSource {
        self.layout_source
    }

    /// Why its debug information was not read to its end, if the layout is another one for that.
    pub fn unread_debug_information(&self) -> Option<TooMuch> {
        self.unread
    }

    /// Whether it has no symbol table, which golife can do without.
    pub fn is_stripped(&self) -> bool {
        symbols::is_stripped(&self.image)
    }

    /// The link-time addresses of its Go code, without the plugins'.
    pub fn text_range(&self) -> Range<u64> {
        self.table.module.text.clone()
    }

    /// The functions with this name as Go prints it: generic ones as `main.f[...]`, closures as `main.f.func1`. There
    /// may be several of one name: `runtime.goexit1` and others that assembly calls also have a short wrapper.
    pub fn functions_named(&self, name: &str) -> Vec<Function> {
        self.table.functions_named(name)
    }

    /// The methods whose names say that they end something, such as `net/http.(*Server).Close`; sorted. The first call
    /// reads the table of names.
    pub fn ending_methods(&self) -> &[String] {
        self.ending_methods.get_or_init(|| self.table.ending_methods())
    }

    /// The copies of the functions with this name that were inlined into others of the same package.
    ///
    /// # Errors
    /// The inline trees are larger than any real program's.
    pub fn inlined_into(&self, name: &str) -> Result<Vec<Inlined>, TooMuch> {
        self.table.inlined_into(name)
    }

    /// Whether it can load plugins: it has the function that opens them, and a dynamic linker.
    pub fn opens_plugins(&self) -> bool {
        let opens = || self.image.interpreter() && !self.functions_named("plugin.Open").is_empty();
        *self.opens_plugins.get_or_init(opens)
    }

    /// The program as it is in a process, together with its plugins, each with its load bias. `bias` is the program's
    /// own.
    pub fn with_modules(&self, bias: u64, plugins: &[(Arc<Binary>, u64)]) -> Binary {
        let module = |(plugin, loaded): &(Arc<Binary>, u64)| {
            Module::new(plugin.clone(), plugin.image(), *loaded, bias)
        };
        Binary { modules: plugins.iter().map(module).collect(), ..self.clone() }
    }

    /// How many plugins it has.
    pub fn plugins(&self) -> usize {
        self.modules.len()
    }

    /// The plugin or program that an address belongs to, and the address as it was linked.
    pub(super) fn owner(&self, address: u64) -> (&Binary, u64) {
        Module::owner(&self.modules, address).unwrap_or((self, address))
    }

    /// Whether it brings its own runtime: a plugin does not, it uses that of the program which opens it.
    pub fn has_runtime(&self) -> bool {
        !self.functions_named("runtime.main").is_empty()
    }

    /// Whether it is a library for programs that are not written in Go (`-buildmode=c-shared` and `c-archive`). Its
    /// `runtime.main` returns before it comes to `main.main`, and goroutine 1 ends.
    pub fn is_library(&self) -> bool {
        const ENTRIES: [&str; 2] = ["_rt0_amd64_linux_lib", "_rt0_arm64_linux_lib"];
        ENTRIES.iter().any(|entry| !self.functions_named(entry).is_empty())
    }

    /// Whether Go code is at this address, the plugins' included.
    pub fn is_code(&self, pc: u64) -> bool {
        let (binary, pc) = self.owner(pc);
        binary.text_range().contains(&pc)
    }

    /// Whether both are about the same file. Their plugins may differ.
    pub fn is_same_file(&self, other: &Binary) -> bool {
        Arc::ptr_eq(&self.image, &other.image)
    }

    /// The function table.
    pub(super) fn table(&self) -> &Pclntab {
        &self.table
    }

    /// The function whose code is at a link-time address.
    pub fn function_at(&self, pc: u64) -> Option<Function> {
        let (owner, at) = self.owner(pc);
        let moved = |address: u64| address.wrapping_add(pc).wrapping_sub(at);
        let function = owner.table.function_at(at)?;
        Some(Function { entry: moved(function.entry), end: moved(function.end), ..function })
    }

    /// The calls that an instruction belongs to, innermost first; empty where no Go code is. For a return address,
    /// ask for the byte before it.
    pub fn frames_at(&self, pc: u64) -> Vec<CodeFrame> {
        let (owner, pc) = self.owner(pc);
        owner.table.frames_at(pc)
    }

    /// How much of the stack a call takes that is at this link-time address, to find the return address of the next one.
    pub fn frame_size(&self, pc: u64) -> Option<FrameSize> {
        let (owner, pc) = self.owner(pc);
        owner.table.frame_size(pc)
    }

    /// The `go` statement of a goroutine, from its `gopc`: what Go's traceback prints after `created by`. None where
    /// no Go code is.
    pub fn go_statement(&self, gopc: u64) -> Option<CodeFrame> {
        let (owner, gopc) = self.owner(gopc);
        let function = owner.table.function_at(gopc)?;
        // gopc is where the call of newproc returns to. That may belong to the next line, so the byte before it counts.
        let pc = if gopc > function.entry { gopc - 1 } else { gopc };
        let (file, line) = owner.table.file_and_line(&function, pc);
        Some(CodeFrame { function: function.name, file, line, inlined: false })
    }

    /// Which `go` statement of its function a goroutine was created by, from its `gopc`: the place among all of that function
    /// by line, then by address, from 1. None where no `go` statement is, or where the code cannot be read.
    pub fn go_ordinal(&self, gopc: u64) -> Option<u32> {
        let (owner, gopc) = self.owner(gopc);
        owner.statements.ordinal(&owner.table, gopc)
    }

    /// The function that a goroutine runs, from its `startpc`: file and line are where the function, or the wrapper
    /// that the compiler made for its arguments, begins. A wrapper is named by what it calls where that can be seen.
    pub fn entry_function(&self, startpc: u64) -> Option<CodeFrame> {
        let (owner, startpc) = self.owner(startpc);
        let function = owner.table.function_at(startpc)?;
        let (file, line) = owner.table.file_and_line(&function, startpc);
        let name = owner.table.wrapped(&function, self.wrapper_id()).unwrap_or(function.name);
        Some(CodeFrame { function: name, file, line, inlined: false })
    }

    /// Whether a function only calls another one: the compiler made it for arguments of a `go` statement, for a method of
    /// an interface or of an embedded type. Go's traceback leaves such calls out.
    pub fn is_wrapper(&self, function: &Function) -> bool {
        let (owner, _) = self.owner(function.entry);
        let id = owner.table.record(function.index).and_then(|record| record.func_id());
        id.is_some() && id == self.wrapper_id()
    }

    /// The `FuncID` of wrappers, which plugins share, since the same toolchain has built them.
    fn wrapper_id(&self) -> Option<u8> {
        *self.wrapper_id.get_or_init(|| self.table.wrapper_id())
    }

    /// Whether a goroutine with this `startpc` is one of the runtime's own.
    pub fn is_system(&self, startpc: u64) -> bool {
        self.function_at(startpc).is_some_and(|function| system::starts_system_goroutine(&function.name))
    }

    /// Whether a frame is of Go's standard library.
    pub fn is_standard(&self, frame: &CodeFrame) -> bool {
        let root = self.standard_root.get_or_init(|| self.standard_root());
        standard::is_standard(frame, root, self.build_info.module.as_deref())
    }

    /// Where Go was installed when the program was built, with the slash at the end: what the paths of the standard
    /// library's files begin with. Empty for programs built with `-trimpath`.
    fn standard_root(&self) -> String {
        let gopark = self.functions_named("runtime.gopark");
        let file = gopark.first().and_then(|function| self.frames_at(function.entry).pop());
        let root = file.and_then(|frame| frame.file.strip_suffix("runtime/proc.go").map(str::to_owned));
        root.unwrap_or_default()
    }

    /// The bytes of the code in a range of addresses; empty where it is not all in the file.
    pub fn code(&self, range: Range<u64>) -> &[u8] {
        let (owner, start) = self.owner(range.start);
        let end = range.end.wrapping_sub(range.start).saturating_add(start);
        owner.image.bytes(start..end).unwrap_or_default()
    }

    /// Where a link-time address is in the file, which is how the kernel wants the place of a probe.
    pub fn vaddr_to_file_offset(&self, vaddr: u64) -> Option<u64> {
        self.image.vaddr_to_file_offset(vaddr)
    }

    /// The link-time address of a place in the file: the reverse of [`Binary::vaddr_to_file_offset`].
    pub fn file_offset_to_vaddr(&self, offset: u64) -> Option<u64> {
        self.image.file_offset_to_vaddr(offset)
    }

    /// Where the linker put text, data and tables.
    pub fn module_data(&self) -> &ModuleData {
        &self.table.module
    }

    /// Where the runtime's list of goroutines is. It is searched for at the first call.
    ///
    /// # Errors
    /// [`GoErrorKind::Missing`] where a stripped program's code is not as expected.
    pub fn globals(&self) -> Result<Globals, GoError> {
        let find = || Globals::find(&self.table).map_err(|kind| kind.to_string());
        self.globals.get_or_init(find).clone().map_err(|why| {
            GoError::new(self.path(), GoErrorKind::Missing { what: "the list of goroutines".into(), why })
        })
    }
}

/// Whether UPX has packed it. The mark of UPX follows the program headers.
fn is_packed(image: &Image) -> bool {
    let start = image.data().get(..512).unwrap_or(image.data());
    start.windows(4).any(|word| word == b"UPX!")
}

#[cfg(test)]
impl Binary {
    pub(crate) fn globals_from_code(&self) -> Result<Globals, GoErrorKind> {
        Globals::from_code(&self.table)
    }

    pub(crate) fn layout_mut(&mut self) -> &mut Layout {
        &mut self.layout
    }

    pub(crate) fn set_globals(&mut self, allgptr: u64, allglen: u64) {
        self.globals = OnceLock::from(Ok(Globals { allgptr, allglen }));
    }
}
