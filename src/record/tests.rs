//! The documented example lines, formats, and what is no line.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const V2: &[&str] = &[
    "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK",
    "2 123456789010 eni-1235b8ca123456789 172.31.9.69 172.31.9.12 49761 3389 6 20 4249 1418530010 1418530070 REJECT OK",
    "2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT OK",
    "2 123456789010 eni-1235b8ca123456789 172.31.16.139 203.0.113.12 0 0 1 4 336 1432917094 1432917142 REJECT OK",
    "2 123456789010 eni-1235b8ca123456789 2001:db8:1234:a100:8d6e:3477:df66:f105 2001:db8:1234:a102:3304:8879:34cf:4071 34892 22 6 54 8855 1477913708 1477913820 ACCEPT OK",
    "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA",
    "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA",
];

const V3_HEADER: &str = "version vpc-id subnet-id instance-id interface-id account-id type srcaddr dstaddr srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end action tcp-flags log-status";
const V3: &[&str] = &[
    "3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 52.213.180.42 10.0.0.62 43416 5001 52.213.180.42 10.0.0.62 6 568 8 1566848875 1566848933 ACCEPT 2 OK",
    "3 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-01234567890123456 eni-1235b8ca123456789 123456789010 IPv4 10.0.0.62 52.213.180.42 5001 43416 10.0.0.62 52.213.180.42 6 376 7 1566848875 1566848933 ACCEPT 18 OK",
];

const V5_HEADER: &str = "version srcaddr dstaddr srcport dstport protocol start end type packets bytes account-id vpc-id subnet-id instance-id interface-id region az-id sublocation-type sublocation-id action tcp-flags pkt-srcaddr pkt-dstaddr pkt-src-aws-service pkt-dst-aws-service traffic-path flow-direction log-status";
const V5: &[&str] = &[
    "5 52.95.128.179 10.0.0.71 80 34210 6 1616729292 1616729349 IPv4 14 15044 123456789012 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-0c50d5961bcb2d47b eni-1235b8ca123456789 ap-southeast-2 apse2-az3 - - ACCEPT 19 52.95.128.179 10.0.0.71 S3 - - ingress OK",
    "5 10.0.0.71 52.95.128.179 34210 80 6 1616729292 1616729349 IPv4 7 471 123456789012 vpc-abcdefab012345678 subnet-aaaaaaaa012345678 i-0c50d5961bcb2d47b eni-1235b8ca123456789 ap-southeast-2 apse2-az3 - - ACCEPT 3 10.0.0.71 52.95.128.179 - S3 8 egress OK",
];

fn as_format(header: &str) -> Format {
    let items: Vec<_> = header.split(' ').map(|n| format!("${{{n}}}")).collect();
    items.join(" ").parse().unwrap()
}

#[test]
fn the_documented_lines_read_and_print_as_they_are() {
    let v2 = Format::default().header();
    let sets = [(v2.as_str(), V2), (V3_HEADER, V3), (V5_HEADER, V5)];
    for (header, line) in sets.iter().flat_map(|(h, ls)| ls.iter().map(|l| (*h, *l))) {
        let columns = Columns::of_header(header).unwrap();
        let record = columns.read(line).unwrap();
        assert_eq!(record.to_string(), line);
        let format = as_format(header);
        let mut printed = String::new();
        format.print(&mut printed, |field| record.get(field));
        assert_eq!(printed, line, "with the version of the format");
        assert_eq!(Columns::from(&format), columns);
    }
}

#[test]
fn values_have_types_and_a_dash_is_null() {
    let columns = Columns::of_header(V5_HEADER).unwrap();
    let record = columns.read(V5[0]).unwrap();
    assert_eq!(record.get(Field::Bytes), Value::Number(15_044));
    let source = IpAddr::from([52, 95, 128, 179]);
    assert_eq!(record.get(Field::SrcAddr), Value::Address(source));
    assert_eq!(record.get(Field::PktSrcAwsService), Value::Text("S3"));
    assert_eq!(record.get(Field::TrafficPath), Value::Null);
    assert_eq!(record.get(Field::EcsTaskId), Value::Null, "no such column");
    let account = record.get(Field::AccountId);
    assert_eq!(account, Value::Text("123456789012"), "zeros in front stay");
}

#[test]
fn lines_without_a_flow_are_told_apart_and_made() {
    let columns = Columns::from(&Format::default());
    for (line, status) in [(V2[5], Status::NoData), (V2[6], Status::SkipData)] {
        let record = columns.read(line).unwrap();
        assert_eq!(record.status(), status);
        let mut printed = String::new();
        // whoever calls may know a flow; it is not told
        let value = |field| match field {
            Field::Action => Value::Text("ACCEPT"),
            Field::SrcPort => Value::Number(7),
            other => record.get(other),
        };
        Format::default().print_without_flow(&mut printed, status, value);
        assert_eq!(printed, line);
    }
    assert_eq!(columns.read(V2[0]).unwrap().status(), Status::Ok);
}

#[test]
fn fields_are_counted_by_version_as_the_reference_does() {
    let up_to = |v| Field::ALL.iter().filter(|f| f.version() <= v).count();
    let counts = [2, 3, 4, 5, 7, 8, 9, 10, 11].map(up_to);
    assert_eq!(counts, [14, 21, 25, 29, 39, 40, 41, 42, 54]);
    assert!(Field::ALL.iter().all(|f| f.version() != 6));
    assert!(
        Field::ALL
            .iter()
            .all(|f| Field::named(f.name()) == Some(*f))
    );
    assert_eq!(Field::PktSrcAwsService.column_name(), "pkt_src_aws_service");
}

#[test]
fn the_version_is_the_highest_of_the_chosen_fields() {
    let version = |text: &str| text.parse::<Format>().unwrap().version();
    assert_eq!(Format::default().version(), 2);
    assert_eq!(version("${srcaddr}"), 2);
    assert_eq!(version("${version} ${tcp-flags}"), 3);
    assert_eq!(version("${flow-direction} ${az-id} ${version}"), 5);
    assert_eq!(version("${reject-reason}"), 8);
    assert_eq!(version("${asg-tag-2} ${version}"), 11);
}

#[test]
fn the_default_format_is_that_of_the_guide() {
    let text = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${srcport} ${dstport} ${protocol} ${packets} ${bytes} ${start} ${end} ${action} ${log-status}";
    assert_eq!(Format::default().to_string(), text);
    assert_eq!(text.parse(), Ok(Format::default()));
}

#[test]
fn a_format_that_is_wrong_is_refused_with_place_and_hint() {
    for (text, wanted) in [
        ("", "at least one field"),
        ("  ", "at least one field"),
        (
            "${version} ${scraddr}",
            "column 14: no field is called \"scraddr\"; did you mean \"srcaddr\"?",
        ),
        ("${src_port}", "did you mean \"srcport\"?"),
        ("${pkt_srcaddr}", "did you mean \"pkt-srcaddr\"?"),
        ("${zebra}", "docs/flow-logs.md"),
        (
            "version srcaddr",
            "column 1: expected ${field}, found \"version\"; put the name between ${ and }",
        ),
        (
            "${version}, ${srcaddr}",
            "column 11: expected ${field}, found \",\"",
        ),
        ("$${version}", "Terraform"),
        (
            "${version} ${srcaddr",
            "column 12: \"${\" is not closed; write ${srcaddr}",
        ),
        (
            "${version ${srcaddr}",
            "column 1: \"${\" is not closed; write ${version}",
        ),
        (
            "${version} ${srcaddr} ${version}",
            "column 23: version is there twice",
        ),
        ("${version}  ${srcaddr}", "column 12: one blank"),
        ("${version}${srcaddr}", "column 11: one blank"),
        (" ${version}", "column 1: one blank"),
        ("${version} ", "column 11: one blank"),
        ("${version}\t${srcaddr}", "column 11: one blank"),
        ("${é} ${version}", "column 3: no field"),
    ] {
        let error = text.parse::<Format>().unwrap_err().to_string();
        assert!(error.contains(wanted), "{text:?}: {error}");
    }
}

#[test]
fn a_header_is_told_from_a_record() {
    assert!(Columns::of_header(V3_HEADER).is_some());
    let future = "version srcaddr dstaddr a-field-of-2030";
    let columns = Columns::of_header(future).unwrap();
    assert_eq!(columns.header(), future);
    let record = columns.read("12 10.0.0.1 10.0.0.2 what-it-says").unwrap();
    assert_eq!(record.values()[3], Value::Text("what-it-says"));
    for line in V2.iter().chain(V3).chain(V5).chain(&["", "a b c", "2 - -"]) {
        assert_eq!(Columns::of_header(line), None, "{line}");
    }
}

#[test]
fn blanks_may_be_doubled_as_in_the_guide() {
    let columns = Columns::from(&Format::default());
    let doubled = V2[0].replace(" 22 ", "  22 ");
    let record = columns.read(&doubled).unwrap();
    assert_eq!(record.to_string(), V2[0]);
}

#[test]
fn a_line_that_does_not_fit_says_where() {
    let columns = Columns::from(&Format::default());
    let changed = |from: &str, to: &str| V2[0].replacen(from, to, 1);
    for (line, wanted) in [
        (changed(" OK", ""), "13 values, where the columns are 14"),
        (changed(" OK", " OK OK"), "15 values"),
        (
            changed("172.31.16.21", "172.31.16"),
            "value 5 (dstaddr) is \"172.31.16\"",
        ),
        (changed(" 22 ", " 70000 "), "value 7 (dstport)"),
        (changed(" 22 ", " +22 "), "value 7 (dstport)"),
        (changed(" 6 ", " 256 "), "value 8 (protocol)"),
        (changed("ACCEPT", "PERHAPS"), "value 13 (action)"),
        (changed("OK", "NOTOK"), "value 14 (log-status)"),
        (
            changed("1418530070", "1418530009"),
            "ends (1418530009) before it starts",
        ),
        (
            changed(" 20 ", " 99999999999999999999 "),
            "value 9 (packets)",
        ),
    ] {
        let error = columns.read(&line).unwrap_err().to_string();
        assert!(error.contains(wanted), "{line}: {error}");
    }
}

#[test]
fn text_cannot_break_a_line() {
    let format: Format = "${instance-tag} ${interface-tag} ${asg-tag}"
        .parse()
        .unwrap();
    let mut line = String::new();
    format.print(&mut line, |field| match field {
        Field::InstanceTag => Value::Text("a b\n\u{a0}ü%41"),
        Field::InterfaceTag => Value::Text(""),
        _ => Value::Text("-"),
    });
    assert_eq!(line, "a%20b%0A%C2%A0ü%41 - %2D");
}

proptest! {
    #[test]
    fn any_choice_of_fields_reads_back_from_its_text_and_its_header(
        picks in proptest::sample::subsequence(Field::ALL.to_vec(), 1..=Field::ALL.len()).prop_shuffle(),
    ) {
        let text: Vec<_> = picks.iter().map(|f| format!("${{{f}}}")).collect();
        let format: Format = text.join(" ").parse().unwrap();
        prop_assert_eq!(format.fields(), &picks[..]);
        prop_assert_eq!(format.to_string().parse(), Ok(format.clone()));
        prop_assert_eq!(Columns::of_header(&format.header()), Some(Columns::from(&format)));
    }

    #[test]
    fn no_text_makes_reading_panic(text in "\\PC{0,80}", line in "[ -~]{0,120}") {
        let _ = text.parse::<Format>();
        let _ = Columns::of_header(&text).map(|c| c.read(&line).is_ok());
        let _ = Columns::from(&Format::default()).read(&line);
    }

    #[test]
    fn numbers_and_addresses_read_back(port: u16, proto: u8, packets in 0..=i64::MAX as u64, v4: [u8; 4], v6: [u8; 16]) {
        let format: Format = "${srcaddr} ${dstaddr} ${srcport} ${protocol} ${packets}".parse().unwrap();
        let value = |field| match field {
            Field::SrcAddr => Value::Address(IpAddr::from(v4)),
            Field::DstAddr => Value::Address(IpAddr::from(v6)),
            Field::SrcPort => Value::Number(port.into()),
            Field::Protocol => Value::Number(proto.into()),
            _ => Value::Number(packets),
        };
        let mut line = String::new();
        format.print(&mut line, value);
        let columns = Columns::from(&format);
        let record = columns.read(&line).unwrap();
        prop_assert!(format.fields().iter().all(|f| record.get(*f) == value(*f)));
    }
}

#[test]
fn the_page_lists_every_field_under_its_version() {
    let page = include_str!("../../docs/flow-logs.md");
    for version in [2, 3, 4, 5, 7, 8, 9, 10, 11] {
        let names: Vec<_> = Field::ALL
            .iter()
            .filter(|f| f.version() == version)
            .map(|f| format!("`{f}`"))
            .collect();
        let row = format!("| {version} | {} |", names.join(" "));
        assert!(page.contains(&row), "{row}");
    }
}
