// SPDX-License-Identifier: Apache-2.0

import Glibc
import LinuxIO
import Synchronization

/// A target that does what a test says, also what no honest target would: the wire of RFC 7143,
/// and nothing behind it.
///
/// It serves one connection after the other, on a thread of its own.
public final class ScriptedTarget: Sendable {
    /// What the target does.
    public struct Script: Sendable {
        /// Status-Class and Status-Detail of the login response.
        public var loginStatus: UInt16 = 0
        /// The keys of the login response.
        public var loginKeys = ["TargetPortalGroupTag=1", "HeaderDigest=None", "ImmediateData=Yes"]
        /// Whether the login is answered at all.
        public var answersLogin = true
        /// Commands that the window takes beyond the one that is expected.
        public var window: UInt32 = 64
        /// Answers a command; nil leaves it unanswered.
        public var command: @Sendable (ScriptedCommand) -> ScriptedAnswer? = { _ in .good }
        /// The response to task management; nil leaves it unanswered.
        public var management: @Sendable (_ function: UInt8) -> UInt8? = { _ in 0 }

        public init() {}
    }

    private struct State {
        var script: Script
        var connection: Int32 = -1
        var commands: [ScriptedCommand] = []
        var functions: [UInt8] = []
        var identifiers: [[UInt8]] = []
        var resetCount = 0
        var isStopped = false
    }

    private let state: Mutex<State>
    private let listener: Int32
    public let port: UInt16

    public init(_ script: Script = Script()) throws {
        state = Mutex(State(script: script))
        (listener, port) = try Self.listen()
        _ = try startThread(name: "target") { [self] in serve() }
    }

    public func stop() {
        state.withLock { state in
            state.isStopped = true
            if state.connection >= 0 { shutdown(state.connection, Int32(SHUT_RDWR)) }
        }
        shutdown(listener, Int32(SHUT_RDWR))
    }

    public var url: String { "iscsi://127.0.0.1:\(port)/iqn.2026-01.com.example:scripted/0" }

    /// What has come, in order.
    public var commands: [ScriptedCommand] { state.withLock { $0.commands } }
    /// The task management functions that have come.
    public var functions: [UInt8] { state.withLock { $0.functions } }
    /// The ISIDs of the logins.
    public var identifiers: [[UInt8]] { state.withLock { $0.identifiers } }

    /// Connections that the initiator has reset.
    public var resetCount: Int { state.withLock { $0.resetCount } }

    public func change(_ body: (inout Script) -> Void) {
        state.withLock { body(&$0.script) }
    }

    /// Breaks the connection.
    public func hangUp() {
        state.withLock { state in
            if state.connection >= 0 { shutdown(state.connection, Int32(SHUT_RDWR)) }
        }
    }

    // MARK: Sockets

    private static func listen() throws -> (Int32, UInt16) {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        // SAFETY: the address is a local of the length that is given with it.
        let code = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                let bound = unsafe bind(descriptor, generic, length)
                return unsafe bound + Glibc.listen(descriptor, 8)
                    + getsockname(descriptor, generic, &length)
            }
        }
        guard code == 0 else { throw TargetError("no port for a scripted target") }
        return (descriptor, UInt16(bigEndian: address.sin_port))
    }

    private func serve() {
        while true {
            let connection = accept(listener, nil, nil)
            if connection < 0 { break }
            let isStopped = state.withLock { state in
                state.connection = connection
                return state.isStopped
            }
            if !isStopped { serve(connection) }
            state.withLock { $0.connection = -1 }
            close(connection)
            if isStopped { break }
        }
        close(listener)
    }

    private func serve(_ connection: Int32) {
        var conversation = Conversation(connection)
        defer { if conversation.wasReset { state.withLock { $0.resetCount += 1 } } }
        while let unit = conversation.receive() {
            let script = state.withLock { $0.script }
            switch unit.operation {
            case 0x03:
                state.withLock { $0.identifiers.append(Array(unit.header[8..<14])) }
                if !script.answersLogin { continue }
                conversation.answerLogin(unit, script)
                if script.loginStatus != 0 { return }
            case 0x01: answerCommand(unit, script, &conversation)
            case 0x02:
                let function = unit.header[1] & 0x7F
                state.withLock { $0.functions.append(function) }
                if let response = script.management(function) {
                    conversation.answerManagement(unit, response, window: script.window)
                }
            case 0x00 where unit.tag != 0xFFFF_FFFF:
                conversation.answerPing(unit, window: script.window)
            case 0x06:
                conversation.answerLogout(unit)
                return
            default: break
            }
        }
    }

    private func answerCommand(
        _ unit: ProtocolUnit, _ script: Script, _ conversation: inout Conversation
    ) {
        let command = ScriptedCommand(cdb: Array(unit.header[32..<48]), data: unit.data)
        state.withLock { $0.commands.append(command) }
        conversation.expected = unit.number &+ 1
        switch script.command(command) {
        case .raw(let bytes): conversation.send(bytes)
        case .hangUp: conversation.end()
        case .status(let status, let sense, let flags, let residual):
            conversation.answerCommand(
                unit, status, sense: sense, flags: flags, residual: residual,
                window: script.window)
        case .data(let bytes):
            conversation.answerCommand(unit, data: bytes, window: script.window)
        case nil: break
        }
    }
}

/// A command that has come to a scripted target.
public struct ScriptedCommand: Sendable {
    public let cdb: [UInt8]
    /// Immediate data.
    public let data: [UInt8]
}

/// What a scripted target does with a command.
public enum ScriptedAnswer: Sendable {
    case status(UInt8, sense: [UInt8] = [], flags: UInt8 = 0x80, residual: UInt32 = 0)
    case data([UInt8])
    case raw([UInt8])
    case hangUp

    public static let good = ScriptedAnswer.status(0)
    /// CHECK CONDITION in fixed format.
    public static func check(_ key: UInt8, _ code: UInt8, _ qualifier: UInt8) -> ScriptedAnswer {
        .status(
            0x02,
            sense: [0x70, 0, key, 0, 0, 0, 0, 10, 0, 0, 0, 0, code, qualifier, 0, 0, 0, 0])
    }
}
