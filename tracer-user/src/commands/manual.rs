//! The manual page, which has all subcommands on one page.

use std::io::{self, Write};

use clap::CommandFactory;

use super::arguments::{Cli, EXAMPLES, EXIT_CODES};

/// Writes the page in roff.
pub(super) fn write(out: &mut dyn Write) -> io::Result<()> {
    let command = Cli::command();
    let page = clap_mangen::Man::new(command.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    page.render_description_section(out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("golife {}", sub.get_name());
        writeln!(out, ".SH \"{}\"", name.to_uppercase())?;
        if let Some(about) = sub.get_long_about().or(sub.get_about()) {
            writeln!(out, "{about}")?;
        }
        let sub =
            sub.clone().about(None::<&str>).long_about(None::<&str>).bin_name(&name).display_name(&name);
        let mut section = Vec::new();
        let man = clap_mangen::Man::new(sub);
        man.render_synopsis_section(&mut section)?;
        man.render_options_section(&mut section)?;
        // They become subsections of the section that the subcommand has.
        out.write_all(String::from_utf8_lossy(&section).replace(".SH ", ".SS ").as_bytes())?;
    }
    // `.nf` keeps the lines as they are, so that the two columns stay columns.
    writeln!(out, ".SH EXAMPLES\n.nf\n{}.fi", EXAMPLES.replace('-', "\\-"))?;
    writeln!(out, ".SH \"EXIT STATUS\"\n{}", EXIT_CODES.trim_start_matches("Exit codes: "))
}
