// SPDX-License-Identifier: Apache-2.0

import CLibiscsi
import Synchronization

/// What was agreed with the target at login (RFC 7143 §13).
///
/// The library does not tell, but logs each key that the target sends.
struct LoginParameters: Equatable {
    /// The target's MaxRecvDataSegmentLength: bytes of data in one PDU that we send.
    var maximumSegment = 8192
    var firstBurst = 65536
    var maximumBurst = 262_144
    var initialR2T = true
    var immediateData = true
    var headerDigest = false

    /// The keys whose values the library uses as they come, and their legal range.
    private static let byteCounts = [
        "MaxRecvDataSegmentLength", "FirstBurstLength", "MaxBurstLength",
    ]

    /// Reads one line of the library's log.
    ///
    /// - Throws: `illegalParameter` for a length that RFC 7143 does not allow: with a segment of 0
    ///   bytes the library would never come to an end.
    mutating func take(_ line: some StringProtocol) throws(ISCSIError) {
        let prefix = "TargetLoginReply: "
        guard line.hasPrefix(prefix) else { return }
        let pair = line.dropFirst(prefix.count).prefix { $0 != " " }
        guard let equals = pair.firstIndex(of: "=") else { return }
        let (key, value) = (String(pair[..<equals]), pair[pair.index(after: equals)...])
        if Self.byteCounts.contains(key) {
            let number = Int(value) ?? 0
            guard (512...0xFF_FFFF).contains(number) else {
                throw .illegalParameter(key: key, value: number)
            }
            takeByteCount(key, number)
        }
        if key == "InitialR2T" { initialR2T = value != "No" }
        if key == "ImmediateData" { immediateData = value != "No" }
        if key == "HeaderDigest" { headerDigest = value == "CRC32C" }
    }

    private mutating func takeByteCount(_ key: String, _ number: Int) {
        switch key {
        case "MaxRecvDataSegmentLength": maximumSegment = number
        case "FirstBurstLength": firstBurst = number
        default: maximumBurst = number
        }
    }
}

/// Collects what the library logs during one call.
///
/// Its log function gets no word of whose session it is called for, and formats into one static
/// buffer: so only one thread at a time may be in a call that logs.
enum LibraryLog {
    private static let calls = Mutex<Void>(())
    private static let lines = Mutex<[String]>([])

    /// Runs `call`, and returns the lines that were logged in it.
    static func collect(_ call: () -> Void) -> [String] {
        calls.withLock { _ in
            lines.withLock { $0.removeAll() }
            call()
            return lines.withLock { $0 }
        }
    }

    /// What the library calls for each line.
    static let function: iscsi_log_fn = { _, message in
        // SAFETY: a C string that the library owns; copied within the call.
        guard let message = unsafe message else { return }
        let line = unsafe String(cString: message)
        // Challenges and responses are nobody's business.
        if line.contains("CHAP_") { return }
        lines.withLock { $0.append(line) }
    }
}
