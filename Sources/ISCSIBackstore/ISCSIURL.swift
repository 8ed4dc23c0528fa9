// SPDX-License-Identifier: Apache-2.0

/// Where a target listens.
public struct ISCSIPortal: Hashable, Sendable, CustomStringConvertible {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    public var host: String
    public var port: UInt16

    /// The registered port of iSCSI (RFC 7143 §15).
    public static let defaultPort: UInt16 = 3260

    public init(host: String, port: UInt16 = defaultPort) {
        self.host = host
        self.port = port
    }

    /// Reads `host`, `host:port`, `[address]` or `[address]:port`.
    ///
    /// A portal group tag after a comma, as a target writes it when it sends us on, is dropped.
    public init(_ text: some StringProtocol) throws(ISCSIError) {
        let address = text.prefix { $0 != "," }
        let host: Substring
        let rest: Substring
        if address.first == "[", let end = address.firstIndex(of: "]") {
            host = Substring(address[address.index(after: address.startIndex)..<end])
            rest = Substring(address[address.index(after: end)...])
        } else {
            let end = address.firstIndex(of: ":") ?? address.endIndex
            host = Substring(address[..<end])
            rest = Substring(address[end...])
        }
        guard !host.isEmpty, host.utf8.count <= 253, !host.contains(where: \.isWhitespace) else {
            throw .illegalPortal(String(text))
        }
        self.host = String(host)
        port = try Self.port(rest, of: text)
    }

    private static func port(
        _ rest: Substring, of text: some StringProtocol
    ) throws(ISCSIError) -> UInt16 {
        if rest.isEmpty { return defaultPort }
        guard rest.first == ":", let port = UInt16(rest.dropFirst()), port > 0 else {
            throw .illegalPortal(String(text))
        }
        return port
    }

    /// As libiscsi takes it: an IPv6 address in brackets.
    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// A logical unit behind iSCSI, as users write it:
/// `iscsi://[user[%secret]@]portal[:port][,portal[:port]...]/target-name/lun`.
public struct ISCSIURL: Equatable, Sendable {
    /// LUNs that the single level addressing of SAM-5 reaches.
    public static let maximumLUN = 16383
    /// Bytes of a name that fit into libiscsi's fields.
    static let maximumNameByteCount = 255

    /// Tried in this order, again from the first after the last.
    public var portals: [ISCSIPortal]
    public var targetName: String
    public var lun: Int
    /// The user that we log in as.
    public var user: String?
    public var secret: ISCSISecret?

    /// Reads a URL.
    ///
    /// - Parameter text: the user ends at the first `%`, the secret at the last `@` before the
    ///   first `/`; in the target's name `%3A` and its like are decoded.
    /// - Throws: what is wrong, without the secret.
    public init(_ text: String) throws(ISCSIError) {
        guard text.hasPrefix("iscsi://") else { throw .notAnISCSIURL }
        let body = text.dropFirst("iscsi://".count)
        // A secret may hold slashes: what stands before the last @ is not looked into.
        let credentials = body.lastIndex(of: "@").map { body[..<$0] }
        let address = credentials.map { body[body.index(after: $0.endIndex)...] } ?? body
        let parts = address.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 3 else { throw .notAnISCSIURL }
        portals = try Self.portals(parts[0])
        targetName = try Self.targetName(parts[1])
        guard let lun = Int(parts[2]), (0...Self.maximumLUN).contains(lun) else {
            throw .illegalLUN(String(parts[2]), limit: Self.maximumLUN)
        }
        self.lun = lun
        if let credentials { try takeCredentials(credentials) }
    }

    /// Where the secret stands in a text that holds a URL somewhere, which may be part of a longer
    /// command line; nil when there is none.
    public static func secretRange(in text: String) -> Range<String.Index>? {
        guard let scheme = text.firstRange(of: "iscsi://"),
            let end = text.lastIndex(of: "@"), scheme.upperBound < end,
            let user = text[scheme.upperBound..<end].firstIndex(of: "%")
        else { return nil }
        return text.index(after: user)..<end
    }

    /// The text with its secret, if there is one, made unreadable.
    public static func withoutSecret(_ text: String) -> String {
        guard let range = secretRange(in: text) else { return text }
        return text[..<range.lowerBound] + "***" + text[range.upperBound...]
    }

    private mutating func takeCredentials(_ text: Substring) throws(ISCSIError) {
        let user = text.prefix { $0 != "%" }
        guard !user.isEmpty else { throw .notAnISCSIURL }
        try Self.checkLength("user", user)
        self.user = String(user)
        if user.endIndex < text.endIndex {
            secret = try ISCSISecret(String(text[text.index(after: user.endIndex)...]))
        }
    }

    private static func portals(_ text: Substring) throws(ISCSIError) -> [ISCSIPortal] {
        var portals: [ISCSIPortal] = []
        for portal in text.split(separator: ",") { portals.append(try ISCSIPortal(portal)) }
        guard !portals.isEmpty else { throw .noPortal }
        return portals
    }

    private static func targetName(_ text: Substring) throws(ISCSIError) -> String {
        let name = decoded(text)
        guard ["iqn.", "eui.", "naa."].contains(where: name.lowercased().hasPrefix),
            !name.contains(where: \.isWhitespace), name.utf8.count > 4
        else { throw .illegalTargetName(name) }
        try checkLength("target's name", name)
        return name
    }

    static func checkLength(_ what: String, _ text: some StringProtocol) throws(ISCSIError) {
        guard text.utf8.count <= maximumNameByteCount else {
            throw .nameTooLong(
                what: what, byteCount: text.utf8.count, limit: maximumNameByteCount)
        }
    }

    /// Turns `%` and two hexadecimal digits into the byte that they name.
    private static func decoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = String(decoding: rest.prefix(2), as: UTF8.self)
            if byte == UInt8(ascii: "%"), digits.utf8.count == 2,
                let value = UInt8(digits, radix: 16), value != 0
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
