// SPDX-License-Identifier: Apache-2.0

import LinuxIO
import VirtioVsock

extension ServiceConfiguration {
    /// Checks everything that can be checked without opening a file.
    ///
    /// - Parameters:
    ///   - knownFeatures: the names that `withheldFeatures` may have.
    ///   - name: what a message about a key begins with.
    /// - Throws: the first thing that is wrong.
    public func check(
        knownFeatures: [String], name: (ConfigurationKey) -> String = { $0.flag }
    ) throws(ConfigurationError) {
        if scsi == nil, vsock == nil { throw .nothingToServe }
        if let scsi { try Self.checkPath(name(.scsiSocket), scsi.socketPath) }
        if let vsock { try Self.check(vsock, name: name) }
        if let controlSocket { try Self.checkPath(name(.controlSocket), controlSocket) }
        try checkApart(name: name)
        for feature in withheldFeatures where !knownFeatures.contains(feature) {
            throw .unknownFeature(feature, known: knownFeatures, flag: name(.withheldFeatures))
        }
    }

    private static func check(
        _ vsock: VsockConfiguration, name: (ConfigurationKey) -> String
    ) throws(ConfigurationError) {
        try checkPath(name(.vsockSocket), vsock.socketPath)
        // The guest's connections go to the path with "_" and a port number appended.
        let room = "_4294967295".utf8.count
        try checkPath(
            name(.vsockPath), vsock.path, limit: UnixAddress.maximumByteCount - room)
        guard (3...0xFFFF_FFFE).contains(vsock.guestCID) else {
            throw .illegalCID(vsock.guestCID, flag: name(.guestCID))
        }
        do throws(VsockError) {
            try vsock.options.validate()
        } catch {
            throw .vsock(error)
        }
    }

    /// Every socket, and every file that is written, has a path of its own.
    private func checkApart(name: (ConfigurationKey) -> String) throws(ConfigurationError) {
        let settings = vsock?.settings
        var paths: [(key: ConfigurationKey, path: String?)] = [
            (.scsiSocket, scsi?.socketPath), (.vsockSocket, vsock?.socketPath),
            (.vsockPath, vsock?.path), (.controlSocket, controlSocket),
            (.vsock(.capture), settings?.capturePath), (.metricsPath, metricsFile?.path),
        ]
        for (_, path) in (settings?.listeners ?? [:]).sorted(by: { $0.key < $1.key }) {
            paths.append((.vsock(.listen), path))
        }
        var taken: [String: String] = [:]
        // A disk may stand at two places.
        for unit in scsi?.luns ?? [] { taken[unit.path] = "--lun" }
        for (key, path) in paths {
            guard let path, !path.isEmpty else { continue }
            if let other = taken.updateValue(name(key), forKey: path) {
                throw .samePath(flag: other, otherFlag: name(key), path: path)
            }
        }
    }

    private static func checkPath(
        _ flag: String, _ path: String, limit: Int = UnixAddress.maximumByteCount
    ) throws(ConfigurationError) {
        guard (1...limit).contains(path.utf8.count) else {
            throw .pathTooLong(flag: flag, path: path, limit: limit)
        }
    }
}
