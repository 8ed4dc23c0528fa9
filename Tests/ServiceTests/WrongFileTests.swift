// SPDX-License-Identifier: Apache-2.0

import Service
import Testing

/// A file, and the whole message about it; "vm" is the file's name.
struct WrongFile: CustomTestStringConvertible {
    let text: String
    let message: String
    var testDescription: String { message }

    init(_ text: String, _ message: String) {
        self.text = text
        self.message = message
    }

    /// What is said of the text; nil when it is taken.
    var found: String? {
        do throws(ConfigurationError) {
            var draft = ConfigurationDraft()
            try draft.read(Array(text.utf8), path: "vm")
            _ = try draft.configuration()
            return nil
        } catch {
            return error.description
        }
    }
}

@Suite("A wrong configuration file")
struct WrongFileTests {
    private static let vsock = "[vsock]\nsocket = 'v'\nguest-cid = 3\npath = 'h'\n"
    private static let unit = "[scsi]\nsocket = 's'\n[[scsi.lun]]\n"
    private static let levels = "trace, debug, info, notice, warning, error, critical"
    private static let lunKeys =
        "known are target, lun, path, readonly, block-size, iops, iops-burst, bytes-per-second, "
        + "bytes-burst, physical-block-size, removable, vendor, product, revision, serial, wwn, "
        + "reservations, shared, and for iSCSI iscsi, initiator, secret-file, secret-variable, target-user, "
        + "target-secret-file, target-secret-variable, header-digest, required, "
        + "replacement-timeout"
    private static let value =
        "is no value; text stands in quotation marks, and else there are whole numbers, true "
        + "and false"
    private static let name = "a name is made of letters, digits, '-' and '_'"
    private static let place =
        "a guest's CID is a number from 3 to 4294967294 (0, 1, 2 and 4294967295 have a meaning of "
        + "their own)"

    private static let syntax = [
        WrongFile("[scsi", "vm:1: a table's name ends with ']'"),
        WrongFile("[[scsi.lun]", "vm:1: a table's name ends with ']]'"),
        WrongFile("[]", "vm:1: \(name)"),
        WrongFile("\n\n[scsi.]", "vm:3: \(name)"),
        WrongFile("['scsi']", "vm:1: \(name)"),
        WrongFile("= 4", "vm:1: \(name)"),
        WrongFile("\"socket\" = 's'", "vm:1: \(name)"),
        WrongFile("[scsi]\nsocket", "vm:2: 'socket' needs '=' and a value"),
        WrongFile("[scsi]\nsocket 's'", "vm:2: 'socket' needs '=' and a value"),
        WrongFile("[scsi]\nsocket =", "vm:2: a value is missing"),
        WrongFile("[scsi]\nsocket = # later", "vm:2: a value is missing"),
        WrongFile("[scsi]\nsocket = s", "vm:2: 's' \(value)"),
        WrongFile("[vsock]\nguest-cid = 1.5", "vm:2: '1.5' \(value)"),
        WrongFile("[vsock]\nguest-cid = 03", "vm:2: '03' \(value)"),
        WrongFile("[vsock]\nguest-cid = 0x3", "vm:2: '0x3' \(value)"),
        WrongFile("[vsock]\nguest-cid = 1__0", "vm:2: '1__0' \(value)"),
        WrongFile(
            "[vsock]\nguest-cid = 99999999999999999999", "vm:2: '99999999999999999999' \(value)"),
        WrongFile("[scsi]\nsocket = True", "vm:2: 'True' \(value)"),
        WrongFile("[scsi]\nsocket = 2026-11-22", "vm:2: '2026-11-22' \(value)"),
        WrongFile("[scsi]\nsocket = 's", "vm:2: a string has no ' at its end"),
        WrongFile("[scsi]\nsocket = \"s", "vm:2: a string has no \" at its end"),
        WrongFile("[scsi]\nsocket = \"s\n\"", "vm:2: a string has no \" at its end"),
        WrongFile("[scsi]\nsocket = \"s\\", "vm:2: a string has no \" at its end"),
        WrongFile(
            "[scsi]\nsocket = \"\\x\"",
            "vm:2: '\\x' means nothing in a string; write '\\\\' for a backslash"),
        WrongFile("[scsi]\nsocket = \"\\u12\"", "vm:2: '\\u12' is no character"),
        WrongFile("[scsi]\nsocket = \"\\uD800\"", "vm:2: '\\uD800' is no character"),
        WrongFile("[scsi]\nsocket = '''s'''", "vm:2: strings over several lines are not used here"),
        WrongFile(
            "[scsi]\nsocket = \"\"\"s\"\"\"", "vm:2: strings over several lines are not used here"),
        WrongFile("scsi = { socket = 's' }", "vm:1: inline tables are not used here"),
        WrongFile(
            "scsi.socket = 's'", "vm:1: a name with dots stands in [ ], as a table of its own"),
        WrongFile(
            "[scsi]\nsocket = 's' [vsock]",
            "vm:2: nothing but a comment may stand behind it on the same line"),
        WrongFile("[scsi] 5", "vm:1: nothing but a comment may stand behind it on the same line"),
        WrongFile("[scsi]\nsocket = 'a\u{7}'", "vm:2: a string has no ' at its end"),
        WrongFile("# \u{1}", "vm:1: a control character, U+1"),
        WrongFile("\r[scsi]", "vm:1: a control character, U+D"),
        WrongFile("disable-features = ['packed'", "vm:1: this list has no ']' at its end"),
        WrongFile(
            "disable-features = [\n'packed'\n'x']",
            "vm:3: the elements of a list have a comma between them"),
        WrongFile("disable-features = [['packed']]", "vm:1: a list within a list"),
        WrongFile("disable-features = [,]", "vm:1: '' \(value)"),
        WrongFile("[scsi]\n\n[scsi]", "vm:3: [scsi] is given twice; the first stands in line 1"),
        WrongFile(
            "[scsi]\nsocket = 'a'\nsocket = 'b'",
            "vm:3: 'socket' is given twice; the first stands in line 2"),
        WrongFile(
            "[[scsi.lun]]\npath = 'a'\npath = 'b'",
            "vm:3: 'path' is given twice; the first stands in line 2"),
    ]

    private static let keys = [
        WrongFile("", "vm: nothing to serve: give scsi.socket, or vsock.socket, or both"),
        WrongFile("[scsi]\n", "vm: nothing to serve: give scsi.socket, or vsock.socket, or both"),
        WrongFile("soket = 's'", "vm:1: soket: no such key; known here are disable-features"),
        WrongFile(
            "[scsi]\nsoket = 's'",
            "vm:2: scsi.soket: no such key; known here are socket, poll-us, threads, "
                + "initiator, lock-disks"),
        WrongFile(
            "[vsock]\ncid = 3",
            "vm:2: vsock.cid: no such key; known here are socket, guest-cid, path, listen, connect, "
                + "connections, clients, allow, deny, wait-for-guest, siblings, group, capture, "
                + "capture-limit"),
        WrongFile(
            "[sci]\nsocket = 's'",
            "vm:1: [sci]: no such table; known are [log], [control], [metrics], [scsi], [vsock], [[scsi.lun]]"
        ),
        WrongFile(
            "[scsi]\nsocket = 's'\npoll-us = 1001",
            "vm:3: scsi.poll-us 1001: not a number from 0 to 1000"),
        WrongFile("[scsi]\npoll-us = 50", "vm:2: scsi.poll-us needs scsi.socket beside it"),
        WrongFile(
            "[scsi]\nlock-disks = 'in-use'", "vm:2: scsi.lock-disks needs scsi.socket beside it"),
        WrongFile("[[scsi]]\nsocket = 's'", "vm:1: [scsi]: it stands once, as [scsi]"),
        WrongFile(
            "[scsi.lun]\npath = 'a'", "vm:1: [scsi.lun]: each logical unit is a [[scsi.lun]]"),
        WrongFile(
            "[scsi]\nsocket = 5",
            "vm:2: scsi.socket: a whole number stands where a string is wanted"),
        WrongFile(
            "[scsi]\nsocket = ['a']", "vm:2: scsi.socket: a list stands where a string is wanted"),
        WrongFile(
            "[vsock]\nguest-cid = '3'",
            "vm:2: vsock.guest-cid: a string stands where a whole number is wanted"),
        WrongFile(
            "disable-features = 'packed'",
            "vm:1: disable-features: a string stands where a list of strings is wanted"),
        WrongFile(
            "disable-features = ['packed', 5]",
            "vm:1: disable-features: a whole number stands where a string is wanted"),
        WrongFile(
            "disable-features = ['paked']\n" + vsock,
            "vm:1: disable-features paked: no such feature; known are "
                + Service.withholdableFeatures.joined(separator: ", ")),
        WrongFile("[log]\nlevel = 'loud'", "vm:2: log.level loud: not one of \(levels)"),
        WrongFile(
            "[log]\nlevel = 3",
            "vm:2: log.level: a whole number stands where one of "
                + "\"\(levels.split(separator: ", ").joined(separator: "\", \""))\" is wanted"),
        WrongFile(
            "[metrics]\ninterval = 0", "vm:2: metrics.interval 0: not a number from 1 to 86400"),
        WrongFile(
            "[control]\nsocket = 's'\n[scsi]\nsocket = 's'",
            "vm:4: scsi.socket and vm:2: control.socket are both s; each needs a path of its own"),
        WrongFile("[scsi]\nsocket = ''", "vm:2: scsi.socket: the value is empty"),
        WrongFile(
            "[scsi]\nsocket = \"\\u0000\"",
            "vm:2: scsi.socket U+0000: not a text without it"),
        WrongFile(
            "[scsi]\nsocket = '\(String(repeating: "x", count: 108))'",
            "vm:2: scsi.socket \(String(repeating: "x", count: 108)): 108 bytes; a Unix socket's "
                + "path has 1 to 107"),
        WrongFile("[vsock]\nsocket = 'v'", "vm:2: vsock.socket needs vsock.guest-cid beside it"),
        WrongFile(
            "[vsock]\nsocket = 'v'\nguest-cid = 3",
            "vm:2: vsock.socket needs vsock.path beside it"),
        WrongFile("[vsock]\npath = 'v'", "vm:2: vsock.path needs vsock.socket beside it"),
        WrongFile("[vsock]\nguest-cid = 3", "vm:2: vsock.guest-cid needs vsock.socket beside it"),
        WrongFile(
            "[vsock]\nsocket = 'v'\nguest-cid = 2\npath = 'h'",
            "vm:3: vsock.guest-cid 2: \(place)"),
        WrongFile(
            "[vsock]\nsocket = 'v'\nguest-cid = -3\npath = 'h'",
            "vm:3: vsock.guest-cid -3: not a number from 0 to 18446744073709551615"),
        WrongFile(
            "[vsock]\nsocket = 'v'\nguest-cid = 4294967295\npath = 'h'",
            "vm:3: vsock.guest-cid 4294967295: \(place)"),
        WrongFile(
            "[vsock]\nsocket = 'v'\nguest-cid = 3\npath = 'v'",
            "vm:2: vsock.socket and vm:4: vsock.path are both v; each needs a path of its own"),
        WrongFile(
            "[scsi]\nsocket = 'v'\n" + vsock,
            "vm:2: scsi.socket and vm:4: vsock.socket are both v; each needs a path of its own"),
    ]

    private static let units = [
        WrongFile("[[scsi.lun]]\npath = 'a'", "vm:1: scsi.lun needs scsi.socket beside it"),
        WrongFile(
            unit,
            "vm:3: scsi.lun: no path; give a file or block device, alone or as path=FILE, or an "
                + "iSCSI URL as iscsi=URL"),
        WrongFile(unit + "file = 'a'", "vm:4: scsi.lun: unknown key 'file'; \(lunKeys)"),
        WrongFile(unit + "file = 5", "vm:4: scsi.lun: unknown key 'file'; \(lunKeys)"),
        WrongFile(
            unit + "path = 5",
            "vm:4: scsi.lun.path: a whole number stands where a string is wanted"),
        WrongFile(
            unit + "path = 'a'\nreadonly = 'on'",
            "vm:5: scsi.lun.readonly: a string stands where true or false is wanted"),
        WrongFile(
            unit + "path = 'a'\nlun = '1'",
            "vm:5: scsi.lun.lun: a string stands where a whole number is wanted"),
        WrongFile(
            unit + "path = 'a'\ntarget = 256",
            "vm:5: scsi.lun: target=256 is not a number from 0 to 255"),
        WrongFile(
            unit + "path = 'a'\nlun = -1", "vm:5: scsi.lun: lun=-1 is not a number from 0 to 16383"),
        WrongFile(
            unit + "path = 'a'\niops = 0",
            "vm:5: scsi.lun: iops=0 is not a number from 1 to 9007199254740992"),
        WrongFile(
            unit + "iscsi = 'iscsi://h/iqn.2026-01.com.example:a/1'\nbytes-per-second = 1000",
            "vm:3: scsi.lun: 'bytes-per-second' is for files and block devices; beside iscsi= are "
                + "allowed target, lun, readonly, initiator, secret-file, secret-variable, "
                + "target-user, target-secret-file, target-secret-variable, header-digest, "
                + "required, replacement-timeout"),
        WrongFile(
            unit + "path = 'a'\nblock-size = 1024",
            "vm:5: scsi.lun: block-size=1024 is neither 512 nor 4096"),
        WrongFile(
            unit + "path = 'a'\ntarget = 1\n[[scsi.lun]]\npath = 'b'\ntarget = 1",
            "vm:6: scsi.lun: two have target=1,lun=0; each needs a place of its own"),
        WrongFile(
            unit + "path = 'a'\niscsi = 'iscsi://h/iqn.2026-01.com.example:a/1'",
            "vm:3: scsi.lun: either path= or iscsi=, not both"),
        WrongFile(
            unit + "iscsi = 'http://h/'",
            "vm:4: scsi.lun: iscsi: not an iSCSI URL; it has the form "
                + "iscsi://[user%secret@]portal[:port]/target-name/lun"),
        WrongFile(
            unit + "path = 'a'\nrequired = true",
            "vm:3: scsi.lun: 'required' needs iscsi= beside it"),
        WrongFile(
            unit + "path = 'a'\niops-burst = 5",
            "vm:3: scsi.lun: 'iops-burst' needs iops= beside it"),
        WrongFile(
            unit + "path = 'a'\niops = 5\nbytes-burst = 5",
            "vm:3: scsi.lun: 'bytes-burst' needs bytes-per-second= beside it"),
        WrongFile(
            vsock + "group = ['blue']", "vm:5: vsock.group needs vsock.siblings beside it"),
        WrongFile(
            vsock + "capture-limit = 5", "vm:5: vsock.capture-limit needs vsock.capture beside it"),
        WrongFile(
            unit + "iscsi = 'iscsi://h/iqn.2026-01.com.example:a/1'\nheader-digest = 'md5'",
            "vm:5: scsi.lun: header-digest=md5 is none of optional, off, required"),
    ]

    @Test("whose text is no TOML is refused with the line", arguments: syntax)
    func refusedText(wrong: WrongFile) {
        #expect(wrong.found == wrong.message)
    }

    @Test("is refused with line, key, and what is allowed", arguments: keys)
    func refusedKey(wrong: WrongFile) {
        #expect(wrong.found == wrong.message)
    }

    @Test("is refused with the line and the key of the logical unit", arguments: units)
    func refusedUnit(wrong: WrongFile) {
        #expect(wrong.found == wrong.message)
    }

    @Test("is one of at least sixty that are tried")
    func count() {
        #expect(Self.syntax.count + Self.keys.count + Self.units.count >= 60)
    }

    @Test("may be no text at all")
    func invalidText() {
        var draft = ConfigurationDraft()
        let error = #expect(throws: ConfigurationError.self) {
            try draft.read(Array("[scsi]\nsocket = '".utf8) + [0xC0, 0x27], path: "vm")
        }
        #expect(error?.description == "vm:2: this is not UTF-8")
    }

    @Test("may not be there")
    func absent() {
        var draft = ConfigurationDraft()
        let error = #expect(throws: ConfigurationError.self) {
            try draft.readFile("/nonexistent/vm")
        }
        #expect(
            error?.description == "/nonexistent/vm: cannot be read: No such file or directory")
    }
}
