// SPDX-License-Identifier: Apache-2.0

public import ISCSIBackstore

/// The part of a logical unit's configuration that is about an iSCSI target.
public struct ISCSIConfiguration: Equatable, Sendable {
    /// Where the unit is; its secret may have come from a file or the environment.
    public var url: ISCSIURL
    /// Who we say to be; nil for the name of this host.
    public var initiatorName: String?
    /// How the target proves who it is.
    public var targetCredentials: CHAPCredentials?
    public var headerDigest = ISCSIHeaderDigest.optional
    /// Whether the service does not start without the unit.
    public var isRequired = false
    /// How long commands wait for a target that is away.
    public var replacementTimeout: Duration
    /// Where the secrets are, and who the target is: keys and values as they were written.
    var credentialKeys: [CredentialKey] = []

    /// A key that has to do with a secret, which is not shown itself.
    struct CredentialKey: Equatable, Sendable {
        let key: String
        let value: String
    }

    /// What the session of a virtual machine, by its name on this host, with a unit at a place in the
    /// guest needs to know.
    func session(machine: String, target: Int, lun: Int) -> ISCSISessionConfiguration {
        var session = ISCSISessionConfiguration(
            url: url, initiatorName: initiatorName ?? ISCSIInitiatorName.ofThisHost,
            sessionIdentifier: ISCSISessionConfiguration.sessionIdentifier(
                machine: machine, target: target, lun: lun))
        session.targetCredentials = targetCredentials
        session.headerDigest = headerDigest
        session.timeouts.replacement = replacementTimeout
        return session
    }
}

/// What is written of an iSCSI target in one `--lun`, before it is put together.
struct ISCSISpecification: Equatable, Sendable {
    /// The keys, in the order in which they are documented.
    static let keys = [
        "iscsi", "initiator", "secret-file", "secret-variable", "target-user",
        "target-secret-file", "target-secret-variable", "header-digest", "required",
        "replacement-timeout",
    ]
    /// Seconds that a target may be away, at most.
    private static let longestTimeout = 86400

    private var url: ISCSIURL?
    private var initiatorName: String?
    private var secret: ISCSISecret?
    private var targetUser: String?
    private var targetSecret: ISCSISecret?
    private var headerDigest = ISCSIHeaderDigest.optional
    private var isRequired = false
    private var replacementTimeout: Duration = ISCSITimeouts().replacement
    private var credentialKeys: [ISCSIConfiguration.CredentialKey] = []
    /// A key other than `iscsi` itself.
    private var companion: String?

    /// Takes one key; the value is nil when it stands alone.
    mutating func apply(
        key: String, value: String?, specification: String
    ) throws(ConfigurationError) {
        do {
            try take(key, value ?? "")
        } catch {
            throw .iSCSI(error, key: key, specification: specification)
        }
        if key == "required" {
            isRequired = try LUNSpecification.flag(key, value, specification)
        }
        if key == "replacement-timeout" {
            replacementTimeout = .seconds(
                try LUNSpecification.number(key, value, Self.longestTimeout, specification))
        }
        if key == "header-digest" {
            guard let digest = ISCSIHeaderDigest(rawValue: value ?? "") else {
                throw .unknownValue(
                    key: key, value: value ?? "", known: ISCSIHeaderDigest.allCases.map(\.rawValue),
                    specification: specification)
            }
            headerDigest = digest
        }
        if key != "iscsi" { companion = key }
        if key.contains("secret") || key == "target-user" {
            credentialKeys.append(.init(key: key, value: value ?? ""))
        }
    }

    private mutating func take(_ key: String, _ value: String) throws(ISCSIError) {
        switch key {
        case "iscsi": url = try ISCSIURL(value)
        case "initiator": initiatorName = value
        case "secret-file": secret = try ISCSISecret(file: value)
        case "secret-variable": secret = try ISCSISecret(environment: value)
        case "target-user": targetUser = value
        case "target-secret-file": targetSecret = try ISCSISecret(file: value)
        case "target-secret-variable": targetSecret = try ISCSISecret(environment: value)
        default: break
        }
    }

    /// Puts the keys together; nil when none was written.
    func configuration(
        specification: String
    ) throws(ConfigurationError) -> ISCSIConfiguration? {
        guard var url else {
            guard let companion else { return nil }
            throw .missingKey("iscsi", companion: companion, specification: specification)
        }
        if let secret { url.secret = secret }
        guard (url.user == nil) == (url.secret == nil) else {
            throw .iSCSI(.incompleteCredentials, key: "iscsi", specification: specification)
        }
        var configuration = ISCSIConfiguration(
            url: url, initiatorName: initiatorName, replacementTimeout: replacementTimeout)
        configuration.headerDigest = headerDigest
        configuration.isRequired = isRequired
        configuration.credentialKeys = credentialKeys
        if let targetUser, let targetSecret {
            configuration.targetCredentials = CHAPCredentials(
                user: targetUser, secret: targetSecret)
        } else if targetUser != nil || targetSecret != nil {
            throw .iSCSI(.incompleteCredentials, key: "target-user", specification: specification)
        }
        do {
            try configuration.session(machine: "", target: 0, lun: 0).check()
        } catch {
            throw .iSCSI(error, key: "iscsi", specification: specification)
        }
        return configuration
    }
}
