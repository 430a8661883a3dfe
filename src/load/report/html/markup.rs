//! Text as markup. Every text that comes from a document goes through [`escape`], in elements and in attributes.

/// Text that is shown as it is and never read as markup. Control characters, which XML has no way to write, become
/// replacement characters.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(char::REPLACEMENT_CHARACTER),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A table: the first row is its head, the first column of each row its heading. Cells are texts.
pub(super) fn table(caption: &str, rows: &[Vec<String>]) -> String {
    let mut html = format!("<div class=\"scroll\"><table><caption>{}</caption>\n", escape(caption));
    for (index, row) in rows.iter().enumerate() {
        html += "<tr>";
        for (column, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            html += &match (index, column) {
                (0, _) => format!("<th scope=\"col\">{cell}</th>"),
                (_, 0) => format!("<th scope=\"row\">{cell}</th>"),
                _ => format!("<td>{cell}</td>"),
            };
        }
        html += "</tr>\n";
    }
    html + "</table></div>\n"
}

/// One entry of a legend: how it is drawn, and what it is.
pub(super) struct LegendEntry {
    /// Classes of the line in the picture.
    pub(super) class: String,
    pub(super) name: String,
}

/// The legend of a picture, as a list with samples of the lines.
pub(super) fn legend(entries: &[LegendEntry]) -> String {
    let items: String = entries
        .iter()
        .map(|LegendEntry { class, name }| {
            format!(
                "<li><svg class=\"sample\" viewBox=\"0 0 28 10\" aria-hidden=\"true\">\
                 <path class=\"line {class}\" d=\"M0 5H28\"/></svg>{}</li>",
                escape(name)
            )
        })
        .collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        // A label of a file from elsewhere could run a script in the reader's browser.
        assert_eq!(
            escape("</title><script>alert(\"1\" & '2')</script>\u{0}"),
            "&lt;/title&gt;&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;\u{fffd}"
        );
        assert!(!table("<b>", &[vec!["<i>".to_owned()]]).contains("<i>"));
        let entry = LegendEntry { class: String::new(), name: "<i>".to_owned() };
        assert!(!legend(&[entry]).contains("<i>"));
    }
}
