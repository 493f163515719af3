//! Text of anybody, made safe to show: a terminal, a browser or a table gets no control characters and no marks that
//! change what the reader sees.

/// Whether a character changes how other characters are shown, or what a terminal does: the control characters C0 and
/// C1, the marks that change the direction of text (Unicode Standard Annex 9), the separators of lines and paragraphs,
/// the marks of annotations, tags, and characters without a width.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{fffe}'
            | '\u{ffff}'
            | '\u{e0000}'..='\u{e007f}')
}

/// One line: each unsafe character is replaced by a space.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }).collect()
}

/// The same for text of several lines, which keeps its line ends and tabs.
pub fn lines(text: &str) -> String {
    text.chars().map(|c| if is_unsafe(c) && !matches!(c, '\n' | '\t') { ' ' } else { c }).collect()
}

/// A field of comma-separated values (RFC 4180). A spreadsheet takes a field for a formula that begins with one of
/// `=+-@`; a quotation mark in front makes it text (OWASP, CSV Injection).
pub fn csv_field(text: &str) -> String {
    let text = one_line(text);
    let is_formula = text.trim_start().starts_with(['=', '+', '-', '@']);
    let text = if is_formula { format!("'{text}") } else { text };
    if text.contains([',', '"', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// What a hostile guest, file or kernel would like to be shown: for the tests of each format.
pub const HOSTILE: &str =
    "=1+1\u{1b}[2J\u{9b}31m\u{0}\u{7f}\u{202e}evil\u{2066}\u{200f}\u{2028}x\u{feff}\u{e0041}\r\u{8}end";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_a_cursor_or_turns_the_text() {
        assert!(!one_line(HOSTILE).contains(is_unsafe));
        assert_eq!(one_line("a\tb\nc\u{202e}d"), "a b c d");
        assert_eq!(lines("a\tb\nc\u{202e}d\u{85}"), "a\tb\nc d ");
        // Letters of any script stay.
        let text = "grün עברית العربية 日本語 → …";
        assert_eq!(one_line(text), text);
    }

    #[test]
    fn a_field_is_no_formula() {
        for (text, field) in [
            ("7.3.4", "7.3.4"),
            ("=cmd|' /C calc'!A0", "\"'=cmd|' /C calc'!A0\""),
            (" @SUM(1)", "\"' @SUM(1)\""),
            ("-1", "\"'-1\""),
            ("+1", "\"'+1\""),
            ("\t=1", "\"' =1\""),
            ("a,b\"c\r\n", "\"a,b\"\"c  \""),
        ] {
            assert_eq!(csv_field(text), field);
        }
    }
}
