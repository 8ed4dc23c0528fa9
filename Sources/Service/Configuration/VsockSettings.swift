// SPDX-License-Identifier: Apache-2.0

public import VirtioVsock

/// What may be said of a vsock device beside where it is, each thing by its name and a text: of a
/// flag (`--vsock-listen 22=/run/ssh`), a variable, and a line of a file alike.
public struct VsockSettings: Equatable, Sendable {
    /// The name of one setting.
    public enum Name: String, CaseIterable, Sendable {
        /// `PORT=PATH`: a socket whose clients reach one port of the guest.
        case listen
        /// `PORT=TEMPLATE`: where the guest reaches one port of the host; `*` for all others.
        case connect
        /// `NUMBER`: connections at once.
        case connections
        /// `NUMBER`: clients at once that have not named a port.
        case clients
        /// `SIDE:PORTS`: ports that may be reached, and no others of that side.
        case allow
        /// `SIDE:PORTS`: ports that may not be reached.
        case deny
        /// `SECONDS`: how long clients wait for a guest that is not there.
        case waitForGuest = "wait-for-guest"
        /// `DIRECTORY`: where the services of other guests are found.
        case siblings
        /// `NAME`: a group of guests that reach each other.
        case group
        /// `FILE`: where every packet is written.
        case capture
        /// `MIB`: how long that file may be.
        case captureLimit = "capture-limit"

        /// One line for people.
        var summary: String {
            switch self {
            case .listen: "Sockets whose clients reach one port of the guest, PORT=PATH."
            case .connect: "Where the guest reaches single ports of the host, PORT=PATH."
            case .connections: "Connections at once."
            case .clients: "Clients at once that have not named a port."
            case .allow: "Ports that may be reached, and no others of that side."
            case .deny: "Ports that may not be reached."
            case .waitForGuest: "Seconds that clients wait for a guest that is not there."
            case .siblings: "The directory of the sockets of other guests' services."
            case .group: "Groups of guests that reach each other."
            case .capture: "A file for every packet."
            case .captureLimit: "MiB that the file of packets may have."
            }
        }

        /// What the text has to be.
        var form: String {
            switch self {
            case .listen: "PORT=PATH, each port once"
            case .connect:
                """
                PORT=PATH, each port once; in it %c is the guest's CID, %p the port; *=PATH is for all \
                other ports
                """
            case .connections: "a number from 1 to 65536"
            case .clients: "a number from 1 to 65536"
            case .allow, .deny: "host:PORTS or guest:PORTS, where PORTS is N, N-M or *"
            case .waitForGuest: "a number of seconds from 0 to 3600"
            case .siblings: "a directory"
            case .group: "a name without blanks, slashes and dots, each group once"
            case .capture: "a file"
            case .captureLimit: "a number of MiB from 1 to 1048576"
            }
        }
    }

    /// Paths of sockets by the port of the guest that their clients reach.
    public private(set) var listeners: [UInt32: String] = [:]
    /// Templates of paths by the port of the host that the guest connects to; 4294967295 stands for
    /// all others.
    public private(set) var services: [UInt32: String] = [:]
    /// Connections at once; nil for the device's own limit.
    public private(set) var connectionLimit: Int?
    /// Clients at once that have not named a port; nil for the device's own limit.
    public private(set) var handshakeLimit: Int?
    /// Which ports may be reached.
    public private(set) var ports = PortRules()
    /// How long clients wait for a guest that is not there.
    public private(set) var waitForGuest = Duration.zero
    /// Where the services of other guests are found; nil when the guest has no siblings.
    public private(set) var siblingDirectory: String?
    /// The groups of guests that reach each other; "default" when none is given.
    public private(set) var groups: [String] = []
    /// Where every packet is written; nil when none is.
    public private(set) var capturePath: String?
    /// Bytes that the file of packets may have; nil for the device's own limit.
    public private(set) var captureByteLimit: UInt64?

    /// Nothing is said.
    public init() {}

    /// Takes one setting in.
    ///
    /// - Parameters:
    ///   - name: of the setting.
    ///   - text: what was written.
    ///   - place: what a message begins with.
    /// - Throws: `ConfigurationError.unfitValue` when the text has not the setting's form.
    public mutating func add(
        _ name: Name, _ text: String, place: String
    ) throws(ConfigurationError) {
        guard take(name, text) else {
            throw .unfitValue(flag: place, value: text, wanted: name.form)
        }
    }

    private mutating func take(_ name: Name, _ text: String) -> Bool {
        switch name {
        case .listen: return Self.insert(text, into: &listeners)
        case .connect: return insertService(text)
        case .connections: return Self.set(&connectionLimit, Self.number(text, 1...65_536))
        case .clients: return Self.set(&handshakeLimit, Self.number(text, 1...65_536))
        case .allow: return Self.append(text, to: &ports.allowed)
        case .deny: return Self.append(text, to: &ports.denied)
        case .waitForGuest: return setWait(text)
        case .siblings: return Self.set(&siblingDirectory, text.isEmpty ? nil : text)
        case .group: return addGroup(text)
        case .capture: return Self.set(&capturePath, text.isEmpty ? nil : text)
        case .captureLimit:
            let limit = Self.number(text, 1...1_048_576)
            return Self.set(&captureByteLimit, limit.map { UInt64($0) << 20 })
        }
    }

    /// What the settings say, as the device takes it.
    public func apply(to options: inout VsockOptions) {
        for (port, path) in listeners { options.listeners[VsockPort(rawValue: port)] = path }
        for (port, template) in services {
            options.services[VsockPort(rawValue: port)] = ServicePath(template)
        }
        if let connectionLimit { options.connectionLimit = connectionLimit }
        if let handshakeLimit { options.handshakeLimit = handshakeLimit }
        options.ports = ports
        options.waitForGuest = waitForGuest
        options.siblings = siblingDirectory.map {
            SiblingOptions(directory: $0, groups: groups.isEmpty ? ["default"] : groups)
        }
        if let capturePath {
            var capture = CaptureOptions(path: capturePath)
            if let captureByteLimit { capture.byteLimit = captureByteLimit }
            options.capture = capture
        }
    }

    private static func set<Value>(_ setting: inout Value?, _ value: Value?) -> Bool {
        setting = value
        return value != nil
    }

    private mutating func setWait(_ text: String) -> Bool {
        guard let seconds = Self.number(text, 0...3600) else { return false }
        waitForGuest = .seconds(seconds)
        return true
    }

    private mutating func addGroup(_ text: String) -> Bool {
        let isName = text.utf8.allSatisfy { byte in
            byte > UInt8(ascii: " ") && byte != UInt8(ascii: "/") && byte != UInt8(ascii: ".")
        }
        guard isName, !text.isEmpty, !groups.contains(text) else { return false }
        groups.append(text)
        return true
    }

    /// Reads `SIDE:PORTS`.
    private static func append(_ text: String, to rules: inout [PortRules.Rule]) -> Bool {
        let fields = text.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count == 2, let side = PortRules.Side(rawValue: String(fields[0])),
            let ports = range(fields[1])
        else { return false }
        rules.append(PortRules.Rule(side, ports))
        return true
    }

    /// Reads `N`, `N-M` or `*`.
    private static func range(_ text: Substring) -> ClosedRange<UInt32>? {
        if text == "*" { return 0...UInt32.max }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count <= 2, let first = ends.first.flatMap({ port($0) }),
            let last = ends.last.flatMap({ port($0) }), first <= last
        else { return nil }
        return first...last
    }

    /// Reads `PORT=TEXT`.
    private static func insert(_ text: String, into map: inout [UInt32: String]) -> Bool {
        guard let equals = text.firstIndex(of: "="), let port = port(text[..<equals]) else {
            return false
        }
        let value = String(text[text.index(after: equals)...])
        return !value.isEmpty && map.updateValue(value, forKey: port) == nil
    }

    /// Reads `PORT=TEXT` or `*=TEXT`.
    private mutating func insertService(_ text: String) -> Bool {
        guard text.hasPrefix("*=") else { return Self.insert(text, into: &services) }
        let template = String(text.dropFirst(2))
        let any = VsockPort.any.rawValue
        return !template.isEmpty && services.updateValue(template, forKey: any) == nil
    }

    /// A port: not VMADDR_PORT_ANY.
    private static func port(_ text: some StringProtocol) -> UInt32? {
        guard text.utf8.allSatisfy((UInt8(ascii: "0")...UInt8(ascii: "9")).contains),
            let port = UInt32(text), port != .max
        else { return nil }
        return port
    }

    private static func number(_ text: String, _ range: ClosedRange<Int>) -> Int? {
        Int(text).flatMap { range.contains($0) ? $0 : nil }
    }
}
