// SPDX-License-Identifier: Apache-2.0

import Glibc
import SystemPackage

/// The name that an initiator goes by (RFC 7143 §4.2.7).
public enum ISCSIInitiatorName {
    /// Where a host's kernel initiator has its name.
    private static let systemFile = "/etc/iscsi/initiatorname.iscsi"

    /// The name of this host's kernel initiator where it has one, else one made of the host's name.
    ///
    /// Both may be logged in at once: an initiator's sessions differ by their ISIDs.
    public static var ofThisHost: String {
        name(inFile: systemFile) ?? "iqn.1970-01.invalid.vhostd:\(hostName)"
    }

    /// The value of `InitiatorName=` in a file; nil when there is none.
    static func name(inFile path: String) -> String? {
        guard let text = FirstBytes.read(path, upTo: 4096) else { return nil }
        for line in text.split(whereSeparator: \.isNewline)
        where line.hasPrefix("InitiatorName=") {
            let name = line.dropFirst("InitiatorName=".count).filter { !$0.isWhitespace }
            return name.isEmpty ? nil : String(name)
        }
        return nil
    }

    /// The host's name, as far as the rules of names allow its letters.
    ///
    /// The corresponding C function is `gethostname`.
    private static var hostName: String {
        // SAFETY: gethostname writes less than the capacity, so that the last byte stays NUL.
        let name = unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { text in
            unsafe text.initialize(repeating: 0)
            guard let start = text.baseAddress, unsafe gethostname(start, 255) == 0 else {
                return ""
            }
            return unsafe String(cString: start)
        }
        let legal = name.lowercased().filter {
            $0.isASCII && ($0.isLetter || $0.isNumber) || $0 == "-" || $0 == "."
        }
        return legal.isEmpty ? "host" : legal
    }
}

/// The beginning of a file.
enum FirstBytes {
    /// At most `limit` bytes as text; nil when the file cannot be read.
    static func read(_ path: String, upTo limit: Int) -> String? {
        // Whoever asks goes on without the file.
        try? bytes(of: path, upTo: limit)
    }

    /// At most `limit` bytes as text.
    static func bytes(of path: String, upTo limit: Int) throws -> String {
        let file = try FileDescriptor.open(FilePath(path), .readOnly)
        let bytes = try file.closeAfter {
            // SAFETY: the kernel writes within the buffer, for the length of the call.
            try unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
                count = try unsafe file.read(into: UnsafeMutableRawBufferPointer(buffer))
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
