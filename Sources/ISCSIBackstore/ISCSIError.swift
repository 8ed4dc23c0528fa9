// SPDX-License-Identifier: Apache-2.0

/// What keeps an iSCSI logical unit from being used; never holds a secret.
public enum ISCSIError: Error, Equatable, Sendable {
    // The configuration.
    case notAnISCSIURL
    case noPortal
    case illegalPortal(String)
    case illegalTargetName(String)
    case illegalLUN(String, limit: Int)
    case nameTooLong(what: String, byteCount: Int, limit: Int)
    case illegalSecret(byteCount: Int, limit: Int)
    case unreadableSecret(path: String, reason: String)
    case unsetSecret(variable: String)
    case mutualWithoutOneWay
    case incompleteCredentials

    // The way to the target.
    case unresolvable(name: String, reason: String)
    case unconnectable(portal: String, reason: String)
    case connectTimeout(portal: String, Duration)
    case outOfMemory
    case noLibrary

    // The login.
    case loginRefused(portal: String, status: UInt16)
    case loginFailed(portal: String, reason: String)
    case loginTimeout(portal: String, Duration)
    case tooManyRedirects(limit: Int)
    case illegalParameter(key: String, value: Int)

    // The logical unit behind it.
    case noSuchLUN(Int)
    case probeFailed(command: String, reason: String)
    case probeTimeout(Duration)
    case otherLogicalUnit(expected: String, found: String)

    // A session that was up.
    case connectionLost(reason: String)
    case targetSilent(Duration)
    case resetByManagement
    case reinstated
    case abandoned
    case notReady(Duration)
}

extension ISCSIError {
    /// Whether the target's answer stays the same until somebody changes the configuration, here or
    /// there: Status-Class 2, initiator error, but for too many connections and for sessions that are
    /// not there (RFC 7143 §11.13.5).
    var isRefusal: Bool {
        guard case .loginRefused(_, let status) = self else { return false }
        return [0x0201, 0x0202, 0x0203, 0x0204, 0x0205, 0x0207, 0x0209, 0x020B].contains(status)
    }
}

extension ISCSIError: CustomStringConvertible {
    public var description: String {
        switch self {
        case .notAnISCSIURL:
            "not an iSCSI URL; it has the form iscsi://[user%secret@]portal[:port]/target-name/lun"
        case .noPortal:
            "the iSCSI URL names no portal"
        case .illegalPortal(let portal):
            "'\(portal)' is not a portal; it is a name or an address, and a port from 1 to 65535"
        case .illegalTargetName(let name):
            "'\(name)' is not a target's name; it begins with iqn., eui. or naa."
        case .illegalLUN(let text, let limit):
            "'\(text)' is not a LUN; it is a number from 0 to \(limit)"
        case .nameTooLong(let what, let byteCount, let limit):
            "the \(what) has \(byteCount) bytes; at most \(limit) fit"
        case .illegalSecret(let byteCount, let limit):
            "a CHAP secret of \(byteCount) bytes; it has 1 to \(limit), none of them zero"
        case .unreadableSecret(let path, let reason):
            "the CHAP secret in \(path) cannot be read: \(reason)"
        case .unsetSecret(let variable):
            "the environment variable \(variable), which should hold a CHAP secret, is not set"
        case .mutualWithoutOneWay:
            "the target can only be authenticated when we are too: give a user and a secret"
        case .incompleteCredentials:
            "CHAP needs both a user and a secret"
        default:
            sessionDescription
        }
    }

    private var sessionDescription: String {
        switch self {
        case .unresolvable(let name, let reason):
            "the portal's name \(name) cannot be resolved: \(reason)"
        case .unconnectable(let portal, let reason):
            "no connection to \(portal): \(reason)"
        case .connectTimeout(let portal, let limit):
            "no connection to \(portal) within \(limit)"
        case .noLibrary:
            "libiscsi.so.7 (the Debian package libiscsi7) is not installed"
        case .outOfMemory:
            "libiscsi has no memory"
        case .loginRefused(let portal, let status):
            "\(portal) refuses the login: \(Self.loginStatusText(status))"
        case .loginFailed(let portal, let reason):
            "the login at \(portal) fails: \(reason)"
        case .loginTimeout(let portal, let limit):
            "\(portal) does not finish the login within \(limit)"
        case .tooManyRedirects(let limit):
            "the target sends us on more than \(limit) times"
        case .illegalParameter(let key, let value):
            "the target declares \(key)=\(value), which RFC 7143 does not allow"
        case .noSuchLUN(let lun):
            "the target has no LUN \(lun), or does not show it to this initiator"
        default:
            unitDescription
        }
    }

    private var unitDescription: String {
        switch self {
        case .probeFailed(let command, let reason):
            "\(command) fails after the login: \(reason)"
        case .probeTimeout(let limit):
            "the logical unit does not answer the first commands within \(limit)"
        case .otherLogicalUnit(let expected, let found):
            "the LUN now leads to another logical unit (\(found) instead of \(expected)); refused"
        case .connectionLost(let reason):
            "the connection broke: \(reason)"
        case .targetSilent(let limit):
            "the target has said nothing for \(limit)"
        case .resetByManagement:
            "the session was dropped, because the target did not do what a reset asked for"
        case .abandoned:
            "the guest's device is stopped, and the target does not end its commands"
        case .reinstated:
            "the guest's driver started anew"
        case .notReady(let limit):
            "the session is not up after \(limit)"
        default:
            "the session failed"
        }
    }

    /// Status-Class and Status-Detail in words (RFC 7143 §11.13.5).
    static func loginStatusText(_ status: UInt16) -> String {
        switch status {
        case 0x0200: "the initiator is at fault (0200h)"
        case 0x0201: "authentication failed: user or secret wrong or missing (0201h)"
        case 0x0202: "this initiator is not allowed to use the target (0202h)"
        case 0x0203: "no target of this name (0203h)"
        case 0x0204: "the target has been removed (0204h)"
        case 0x0205: "the iSCSI version is not supported (0205h)"
        case 0x0206: "too many connections (0206h)"
        case 0x0207: "a parameter is missing (0207h)"
        case 0x0208: "the connection cannot join the session (0208h)"
        case 0x0209: "the session type is not supported (0209h)"
        case 0x020A: "no such session (020Ah)"
        case 0x020B: "an illegal request during the login (020Bh)"
        case 0x0300: "the target is at fault (0300h)"
        case 0x0301: "the service is unavailable (0301h)"
        case 0x0302: "the target is out of resources (0302h)"
        default: "status \(String(status, radix: 16))h"
        }
    }
}
