//! How a GIS draws classes: QGIS's style (QML) and the OGC's (SLD), one symbol a class.

use crate::config::Class;

/// A text as XML holds it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A style of QGIS 3: polygons filled by their class at half opacity.
pub(super) fn qml(classes: &[Class]) -> String {
    let (mut categories, mut symbols) = (String::new(), String::new());
    for (i, class) in classes.iter().filter(|c| c.index != 0).enumerate() {
        let (name, [r, g, b]) = (escaped(&class.name), class.color);
        let index = class.index;
        categories += &format!(r#"<category symbol="{i}" value="{index}" type="long" label="{name}" render="true"/>"#);
        let option = |name: &str, value: &str| format!(r#"<Option type="QString" name="{name}" value="{value}"/>"#);
        symbols += &format!(
            r#"<symbol type="fill" name="{i}" alpha="1" clip_to_extent="1" force_rhr="0"><layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">{}{}{}{}{}{}</Option></layer></symbol>"#,
            option("color", &format!("{r},{g},{b},128")),
            option("outline_color", &format!("{r},{g},{b},255")),
            option("outline_style", "solid"),
            option("outline_width", "0.26"),
            option("outline_width_unit", "MM"),
            option("style", "solid"),
        );
    }
    format!(
        r#"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'><qgis version="3.22" styleCategories="Symbology"><renderer-v2 type="categorizedSymbol" attr="class" forceraster="0" symbollevels="0" enableorderby="0"><categories>{categories}</categories><symbols>{symbols}</symbols></renderer-v2></qgis>"#
    )
}

/// A style of the OGC (SLD 1.1.0) that draws the same.
pub(super) fn sld(layer: &str, classes: &[Class]) -> String {
    let mut rules = String::new();
    for class in classes.iter().filter(|c| c.index != 0) {
        let (name, [r, g, b], index) = (escaped(&class.name), class.color, class.index);
        rules += &format!(
            r##"<se:Rule><se:Name>{name}</se:Name><ogc:Filter><ogc:PropertyIsEqualTo><ogc:PropertyName>class</ogc:PropertyName><ogc:Literal>{index}</ogc:Literal></ogc:PropertyIsEqualTo></ogc:Filter><se:PolygonSymbolizer><se:Fill><se:SvgParameter name="fill">#{r:02x}{g:02x}{b:02x}</se:SvgParameter><se:SvgParameter name="fill-opacity">0.5</se:SvgParameter></se:Fill><se:Stroke><se:SvgParameter name="stroke">#{r:02x}{g:02x}{b:02x}</se:SvgParameter></se:Stroke></se:PolygonSymbolizer></se:Rule>"##
        );
    }
    let layer = escaped(layer);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><StyledLayerDescriptor xmlns="http://www.opengis.net/sld" xmlns:ogc="http://www.opengis.net/ogc" xmlns:se="http://www.opengis.net/se" version="1.1.0"><NamedLayer><se:Name>{layer}</se:Name><UserStyle><se:Name>classes</se:Name><se:FeatureTypeStyle>{rules}</se:FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn styles_are_xml_whatever_the_names() {
        let class = |index, name: &str| Class { index, name: name.into(), color: [1, 2, 3], threshold: None };
        let classes = [class(0, "background"), class(1, "a <b> & \"c\"\u{1}"), class(9, "Dächer")];
        let qml = qml(&classes);
        let sld = sld("a&b", &classes);
        let parsed = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
        let document = roxmltree::Document::parse_with_options(&qml, parsed).expect("XML");
        assert_eq!(document.descendants().filter(|n| n.has_tag_name("category")).count(), 2);
        let document = roxmltree::Document::parse(&sld).expect("XML");
        assert!(document.descendants().any(|n| n.text() == Some("a <b> & \"c\" ")));
    }
}
