// SPDX-License-Identifier: Apache-2.0

extension ConfigurationDraft {
    /// Puts everything together and checks it, as far as that goes without opening a file.
    ///
    /// - Throws: the first thing that is wrong, with its place.
    public func configuration() throws(ConfigurationError) -> ServiceConfiguration {
        var configuration = ServiceConfiguration(
            scsi: try scsi(), vsock: try vsock(), withheldFeatures: texts(.withheldFeatures),
            logLevel: self[.logLevel].flatMap { LogLevel(rawValue: $0) } ?? .info)
        configuration.machine = filePath.flatMap { Self.machineName($0) }
        configuration.controlSocket = self[.controlSocket]
        configuration.metricsFile = self[.metricsPath].map {
            MetricsFileConfiguration(path: $0, intervalSeconds: number(.metricsInterval) ?? 15)
        }
        if let filePath, configuration.scsi == nil, configuration.vsock == nil {
            throw .emptyFile(path: filePath)
        }
        try configuration.check(knownFeatures: Composition.withholdableFeatures) { name(of: $0) }
        return configuration
    }

    private static func machineName(_ path: String) -> String? {
        guard let file = path.split(separator: "/").last else { return nil }
        let name = file.hasSuffix(".toml") ? file.dropLast(5) : file
        return name.isEmpty ? nil : String(name)
    }

    private func scsi() throws(ConfigurationError) -> SCSIConfiguration? {
        guard let socket = self[.scsiSocket] else {
            for key in [ConfigurationKey.pollLimit, .scsiThreads, .lockDisks] {
                if let place = place(of: key) {
                    throw .missingCompanion(
                        flag: place.description, companion: place.name(of: .scsiSocket))
                }
            }
            guard let unit = units.first else { return nil }
            throw .missingCompanion(flag: unit.place, companion: hint(.scsiSocket))
        }
        var scsi = SCSIConfiguration(
            socketPath: socket, luns: try LUNSpecification.resolve(units))
        scsi.pollLimit = .microseconds(number(.pollLimit) ?? 0)
        scsi.threadCount = Int(number(.scsiThreads) ?? 1)
        scsi.initiatorName = self[.scsiInitiator]
        scsi.diskLocking = self[.lockDisks].flatMap { DiskLocking(rawValue: $0) } ?? .atStart
        return scsi
    }

    private func vsock() throws(ConfigurationError) -> VsockConfiguration? {
        guard let socket = self[.vsockSocket] else {
            for key in ConfigurationKey.all where key.isForVsockOnly {
                if let place = place(of: key) {
                    throw .missingCompanion(
                        flag: place.description, companion: place.name(of: .vsockSocket))
                }
            }
            return nil
        }
        guard let guestCID = number(.guestCID) else { throw missing(.guestCID) }
        guard let path = self[.vsockPath] else { throw missing(.vsockPath) }
        return VsockConfiguration(
            socketPath: socket, guestCID: guestCID, path: path, settings: try vsockSettings())
    }

    private func vsockSettings() throws(ConfigurationError) -> VsockSettings {
        var settings = VsockSettings()
        for name in VsockSettings.Name.allCases {
            let key = ConfigurationKey.vsock(name)
            for text in texts(key) { try settings.add(name, text, place: self.name(of: key)) }
        }
        try check(.group, needs: .siblings)
        try check(.captureLimit, needs: .capture)
        return settings
    }

    private func check(
        _ name: VsockSettings.Name, needs other: VsockSettings.Name
    ) throws(ConfigurationError) {
        guard let place = place(of: .vsock(name)), texts(.vsock(other)).isEmpty else { return }
        throw .missingCompanion(
            flag: place.description, companion: place.name(of: .vsock(other)))
    }

    private func missing(_ key: ConfigurationKey) -> ConfigurationError {
        let place = place(of: .vsockSocket) ?? .flag(ConfigurationKey.vsockSocket.flag)
        return .missingCompanion(flag: place.description, companion: place.name(of: key))
    }
}

extension ConfigurationKey {
    fileprivate var isForVsockOnly: Bool { table == "vsock" && self != .vsockSocket }
}
