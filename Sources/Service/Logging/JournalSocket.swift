// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import SystemPackage

/// Where the journal takes records with their fields (systemd's "Native Journal Protocol").
///
/// A record is one datagram. Any thread may send one; nobody waits: when the journal has no room, the
/// record is lost, and counted.
struct JournalSocket: Sendable {
    /// Where systemd-journald listens.
    static let standardPath = "/run/systemd/journal/socket"

    let path: String

    /// The journal, when standard error leads there: `JOURNAL_STREAM` names the device and the inode
    /// of the socket that the service manager has made standard error; somebody who starts the
    /// program from within a service and redirects it gets the text there.
    ///
    /// - Parameters:
    ///   - variable: the value of a variable of the environment.
    ///   - standardError: `device:inode` of standard error.
    ///   - path: where the journal listens.
    init?(
        variable: (String) -> String?, standardError: String?, path: String = Self.standardPath
    ) {
        guard let stream = variable("JOURNAL_STREAM"), stream == standardError else { return nil }
        self.path = path
    }

    /// Sends a record.
    ///
    /// - Returns: whether the journal has it.
    func send(_ record: JournalRecord) -> Bool {
        do throws(Errno) {
            try UnixDatagram.sendWithoutWaiting(record.bytes, toPath: path)
            return true
        } catch .messageTooLong {
            // Larger than the socket's buffer: what matters is in the beginning of the message.
            return record.isCut ? false : send(record.cut)
        } catch {
            return false
        }
    }
}

/// Fields of one record, in the form in which the journal takes them.
struct JournalRecord: Equatable, Sendable {
    /// Bytes of a field that is kept when a record is too large.
    private static let cutByteCount = 1024

    private(set) var fields: [(name: String, value: String)] = []
    private(set) var isCut = false

    /// Adds a field.
    ///
    /// - Parameters:
    ///   - name: whatever is not a letter, a digit or `_` becomes `_`; letters become capital ones. At
    ///     most 64 bytes, as the journal has it; it does not begin with `_` or a digit.
    ///   - value: any text.
    mutating func add(_ name: String, _ value: String) {
        fields.append((Self.fieldName(name), value))
    }

    static func fieldName(_ name: String) -> String {
        let bytes = name.utf8.map { byte -> UInt8 in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"): byte - 32
            case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"):
                byte
            default: UInt8(ascii: "_")
            }
        }
        let tail = bytes.drop { $0 == UInt8(ascii: "_") || $0 < UInt8(ascii: "A") }
        return String(decoding: tail.prefix(64), as: UTF8.self)
    }

    /// The record with every field cut short.
    var cut: JournalRecord {
        var record = JournalRecord()
        record.isCut = true
        for (name, value) in fields {
            let bytes = value.utf8.prefix(Self.cutByteCount)
            record.fields.append((name, String(decoding: bytes, as: UTF8.self)))
        }
        return record
    }

    /// `NAME=value` and a newline; a value with a newline in it has its length, 64 bits little-endian,
    /// before it instead of the `=`.
    var bytes: [UInt8] {
        var bytes: [UInt8] = []
        for (name, value) in fields where !name.isEmpty {
            bytes += name.utf8
            if value.utf8.contains(0x0A) {
                bytes.append(0x0A)
                let count = UInt64(value.utf8.count)
                bytes += (0..<8).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
            } else {
                bytes.append(UInt8(ascii: "="))
            }
            bytes += value.utf8
            bytes.append(0x0A)
        }
        return bytes
    }

    static func == (left: JournalRecord, right: JournalRecord) -> Bool {
        left.bytes == right.bytes
    }
}
