// SPDX-License-Identifier: Apache-2.0

/// Who somebody says to be, and how he proves it (RFC 7143 §12.1.3).
public struct CHAPCredentials: Equatable, Sendable {
    public var user: String
    public var secret: ISCSISecret

    public init(user: String, secret: ISCSISecret) {
        self.user = user
        self.secret = secret
    }
}

/// Whether the headers of the protocol carry a CRC32C (RFC 7143 §13.1).
public enum ISCSIHeaderDigest: String, CaseIterable, Sendable {
    /// The target decides; we would rather have none.
    case optional
    /// Never.
    case off
    /// Always; a target that cannot is not used.
    case required
}

/// How long things may take.
public struct ISCSITimeouts: Equatable, Sendable {
    /// A TCP connection.
    public var connect: Duration = .seconds(5)
    /// From the connection to full feature phase.
    public var login: Duration = .seconds(15)
    /// The commands that look at the logical unit after each login.
    public var probe: Duration = .seconds(15)
    /// How long commands wait for a session that is gone, before they fail.
    public var replacement: Duration = .seconds(120)
    /// The pause before the second attempt; it doubles with each further one.
    public var firstBackoff: Duration = .milliseconds(100)
    /// The longest pause between attempts.
    public var longestBackoff: Duration = .seconds(2)
    /// A target that has said nothing for so long is sent a NOP-Out.
    public var keepAlive: Duration = .seconds(5)
    /// A target that does not answer the NOP-Out for so long is given up.
    public var keepAliveAnswer: Duration = .seconds(10)
    /// An idle logical unit is asked for unit attentions this often.
    public var attentionPoll: Duration = .seconds(10)
    /// What TCP may leave unacknowledged before it gives the connection up.
    public var unacknowledged: Duration = .seconds(30)
    /// One step of task management, before the next stronger one is taken.
    public var taskManagement: Duration = .seconds(10)

    public init() {}
}

/// Everything that a session needs to know.
public struct ISCSISessionConfiguration: Sendable {
    /// Tried in this order, again from the first after the last.
    ///
    /// At least one.
    public var portals: [ISCSIPortal]
    public var targetName: String
    /// The LUN at the target.
    public var lun: Int
    public var initiatorName: String
    /// The same for this VM and LUN at each login, so that a new login reinstates the session
    /// (RFC 7143 §6.3.5) and persistent reservations stay ours: the 24 random and the 16
    /// qualifying bits of an ISID of type 10b.
    public var sessionIdentifier: UInt64
    /// How we prove who we are.
    public var credentials: CHAPCredentials?
    /// How the target has to prove who it is.
    public var targetCredentials: CHAPCredentials?
    public var headerDigest = ISCSIHeaderDigest.optional
    public var timeouts = ISCSITimeouts()
    /// Commands that are handed to the target at once, at most.
    public var maximumInFlight = 128

    public init(url: ISCSIURL, initiatorName: String, sessionIdentifier: UInt64) {
        portals = url.portals
        targetName = url.targetName
        lun = url.lun
        self.initiatorName = initiatorName
        self.sessionIdentifier = sessionIdentifier
        if let user = url.user, let secret = url.secret {
            credentials = CHAPCredentials(user: user, secret: secret)
        }
    }

    /// Checks what the types do not say.
    public func check() throws(ISCSIError) {
        guard !portals.isEmpty else { throw .noPortal }
        guard credentials != nil || targetCredentials == nil else { throw .mutualWithoutOneWay }
        try ISCSIURL.checkLength("initiator's name", initiatorName)
        guard !initiatorName.isEmpty else { throw .illegalTargetName(initiatorName) }
        if let credentials { try ISCSIURL.checkLength("user", credentials.user) }
        if let targetCredentials {
            try ISCSIURL.checkLength("target's user", targetCredentials.user)
        }
    }

    /// A session identifier that follows from what does not change over restarts.
    ///
    /// - Parameters:
    ///   - machine: names the virtual machine on this host, for example its socket's path.
    ///   - target: the target id in the guest.
    ///   - lun: the LUN in the guest.
    /// - Returns: 40 bits, an FNV-1a hash folded.
    public static func sessionIdentifier(machine: String, target: Int, lun: Int) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in "\(machine)\u{0}\(target)\u{0}\(lun)".utf8 {
            hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3
        }
        return (hash ^ (hash >> 40)) & 0xFF_FFFF_FFFF
    }
}
