-- Lists are read along these, page by page: in creation order and by name, of all projects and of one. Members are
-- listed by their tree, so these stay small beside them. Names compare as bytes.
DROP INDEX resource_root_project;
DROP INDEX resource_root_name;
CREATE INDEX resource_created ON resource (kind, created_us, id) WHERE kind <> 'member';
CREATE INDEX resource_named ON resource (kind, name, created_us, id) WHERE kind <> 'member';
CREATE INDEX resource_project_created ON resource (kind, project_id, created_us, id) WHERE kind <> 'member';
CREATE INDEX resource_project_named ON resource (kind, project_id, name, created_us, id) WHERE kind <> 'member';
