// SPDX-License-Identifier: Apache-2.0

import Glibc

/// One protocol data unit of the initiator (RFC 7143 §11).
struct ProtocolUnit {
    let header: [UInt8]
    let data: [UInt8]

    var operation: UInt8 { header[0] & 0x3F }
    /// The initiator task tag.
    var tag: UInt32 { word(16) }
    /// CmdSN.
    var number: UInt32 { word(24) }

    func word(_ offset: Int) -> UInt32 {
        header[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) }
    }
}

/// The target's end of one connection.
struct Conversation {
    private let descriptor: Int32
    /// ExpCmdSN.
    var expected: UInt32 = 0
    private var status: UInt32 = 1
    /// The connection ended by a reset: the initiator's kernel holds nothing back for us any more.
    private(set) var wasReset = false

    init(_ descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Waits for the next unit; nil at the end of the connection.
    mutating func receive() -> ProtocolUnit? {
        guard let header = read(48) else { return nil }
        let length = Int(header[5]) << 16 | Int(header[6]) << 8 | Int(header[7])
        let padded = (length + 3) & ~3
        guard let data = padded == 0 ? [] : read(padded) else { return nil }
        return ProtocolUnit(header: header, data: Array(data.prefix(length)))
    }

    private mutating func read(_ count: Int) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: count)
        // SAFETY: the kernel fills the array, no further than its end.
        let received = unsafe bytes.withUnsafeMutableBytes {
            unsafe recv(descriptor, $0.baseAddress, count, Int32(MSG_WAITALL))
        }
        if received < 0 { wasReset = errno == ECONNRESET }
        return received == count ? bytes : nil
    }

    func send(_ bytes: [UInt8]) {
        // SAFETY: the kernel reads the array.
        _ = unsafe bytes.withUnsafeBytes {
            unsafe Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
    }

    func end() {
        shutdown(descriptor, Int32(SHUT_RDWR))
    }

    // MARK: Answers

    mutating func answerLogin(_ unit: ProtocolUnit, _ script: ScriptedTarget.Script) {
        expected = unit.number
        var header = responseHeader(unit, operation: 0x23, flags: 0x87, window: script.window)
        header.replaceSubrange(8..<14, with: unit.header[8..<14])
        header[15] = 1
        header[36] = UInt8(script.loginStatus >> 8)
        header[37] = UInt8(script.loginStatus & 0xFF)
        send(header, data: script.loginKeys.flatMap { Array($0.utf8) + [0] })
    }

    mutating func answerCommand(
        _ unit: ProtocolUnit, _ status: UInt8, sense: [UInt8], flags: UInt8, residual: UInt32,
        window: UInt32
    ) {
        var header = responseHeader(unit, operation: 0x21, flags: flags, window: window)
        header[3] = status
        set(residual, at: 44, in: &header)
        let length = [UInt8(sense.count >> 8), UInt8(sense.count & 0xFF)]
        send(header, data: sense.isEmpty ? [] : length + sense)
    }

    /// Data-In with the status in it.
    mutating func answerCommand(_ unit: ProtocolUnit, data: [UInt8], window: UInt32) {
        var flags: UInt8 = 0x81
        var header = responseHeader(unit, operation: 0x25, flags: flags, window: window)
        set(0xFFFF_FFFF, at: 20, in: &header)
        let missing = Int(unit.word(20)) - data.count
        if missing > 0 {
            flags |= 0x02
            header[1] = flags
            set(UInt32(missing), at: 44, in: &header)
        }
        send(header, data: data)
    }

    mutating func answerManagement(_ unit: ProtocolUnit, _ response: UInt8, window: UInt32) {
        var header = responseHeader(unit, operation: 0x22, flags: 0x80, window: window)
        header[2] = response
        send(header, data: [])
    }

    mutating func answerPing(_ unit: ProtocolUnit, window: UInt32) {
        expected = unit.number &+ 1
        var header = responseHeader(unit, operation: 0x20, flags: 0x80, window: window)
        set(0xFFFF_FFFF, at: 20, in: &header)
        send(header, data: [])
    }

    mutating func answerLogout(_ unit: ProtocolUnit) {
        send(responseHeader(unit, operation: 0x26, flags: 0x80, window: 1), data: [])
    }

    private mutating func responseHeader(
        _ unit: ProtocolUnit, operation: UInt8, flags: UInt8, window: UInt32
    ) -> [UInt8] {
        var header = [UInt8](repeating: 0, count: 48)
        header[0] = operation
        header[1] = flags
        header.replaceSubrange(16..<20, with: unit.header[16..<20])
        set(status, at: 24, in: &header)
        status &+= 1
        set(expected, at: 28, in: &header)
        set(expected &+ window &- 1, at: 32, in: &header)
        return header
    }

    private func send(_ header: [UInt8], data: [UInt8]) {
        var bytes = header
        bytes[5] = UInt8(data.count >> 16 & 0xFF)
        bytes[6] = UInt8(data.count >> 8 & 0xFF)
        bytes[7] = UInt8(data.count & 0xFF)
        bytes += data
        bytes += [UInt8](repeating: 0, count: (4 - data.count % 4) % 4)
        send(bytes)
    }

    private func set(_ word: UInt32, at offset: Int, in header: inout [UInt8]) {
        for index in 0..<4 {
            header[offset + index] = UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * index))
        }
    }
}
